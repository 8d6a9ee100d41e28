package main

// settings are the flags that set the same as the configuration file; serve
// and check share them. Package config knows their meaning: here they have
// only names and words. No flag has a default of its own, so that "not given"
// can be told from "given".
type settings struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration file (YAML). Flags override it. \"popgate check --reference\" prints one with every setting."`

	Listen         []string `placeholder:"URL" sep:"none" help:"Where POP3 clients connect: pop3://HOST[:PORT] (STLS when there is a certificate) or pop3s://HOST[:PORT] (TLS from the first octet). Repeats. Ports default to 110 and 995; IPv6 in brackets. Required, here or in the file."`
	TLSCert        string   `placeholder:"FILE" help:"Certificate chain in PEM, for pop3s:// and STLS. Default: none."`
	TLSKey         string   `placeholder:"FILE" help:"Private key of --tls-cert in PEM. Default: none."`
	ClearTextLogin string   `placeholder:"WHERE" help:"Where a login without TLS is accepted: loopback or anywhere. Default: loopback."`

	Upstream    string `placeholder:"URL" help:"The IMAP or JMAP server: imap://HOST[:PORT], imaps://HOST[:PORT] or jmap+https://HOST[:PORT]. Ports default to 143, 993 and 443. Required, here or in the file."`
	UpstreamCA  string `placeholder:"FILE" help:"Trust the certificates in this PEM file upstream. Default: those of the system."`
	UpstreamTLS string `placeholder:"HOW" complete:"auto,starttls" help:"For imap://: auto (plain to a loopback address, STARTTLS required elsewhere) or starttls (required everywhere). Default: auto."`
	Mailbox     string `placeholder:"NAME" help:"The mailbox that POP3 shows. Default: INBOX."`

	Delete string `placeholder:"HOW" complete:"expunge,trash,hide,refuse" help:"What deletion does upstream: expunge (the message is removed), trash (moved to the trash mailbox), hide (stays for other programs, POP3 shows it no more) or refuse (DELE is an error). Default: expunge."`
	Trash  string `placeholder:"NAME" help:"The trash mailbox. Default: the one that the server marks as \\Trash."`
	Seen   string `placeholder:"WHEN" complete:"no,retr" help:"Mark messages as read upstream: no, or retr (those that were retrieved, at QUIT). Default: no."`

	Metrics   string `placeholder:"HOST:PORT" help:"Serve Prometheus metrics at /metrics, and /-/healthy and /-/ready. Default: off."`
	Drain     string `placeholder:"TIME" help:"How long sessions may go on after SIGTERM, such as 30s. Default: 30s."`
	LogFormat string `placeholder:"FORMAT" complete:"auto,text,json" help:"auto (text on a terminal, else JSON), text or json. Default: auto."`
	LogLevel  string `placeholder:"LEVEL" complete:"debug,info,warn,error" help:"debug, info, warn or error. Default: info."`
}
