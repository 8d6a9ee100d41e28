// Command bench compares popgate with its peers, in front of one Dovecot and on
// one machine: Dovecot's POP3 over imapc, with its indexes and without; Dovecot's
// own POP3, which has the mail on its disk; and "wire", a raw IMAP client that
// does the same in as few round trips as there can be, and so shows what the
// server and the line allow.
//
// Usage: deploy/bench/run.sh [flags]
//
// All contenders run at the same time, and take turns: every work is done by each
// of them in each round. The table shows medians. Every octet that comes through
// POP3 is compared with the corpus, which is the same in every run; a contender
// that delivers anything else ends the benchmark.
//
// Client, gateway and server share the machine's processors, so that the
// figures are of this machine, and only the ratios between the columns are worth
// anything elsewhere. Processor time and memory are those of the gateway's process
// tree, the mail server and the client aside. The "20 ms" is a relay between
// gateway and mail server that holds every octet for 10 ms each way, and the
// first ones for the time of a TCP handshake.
//
// It needs root: the mail belongs to a user of its own.
package main
