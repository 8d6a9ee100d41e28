// Package realtest holds the tests of popgate against real mail servers with
// real POP3 clients. It has no code of its own outside its tests.
//
// The servers are Dovecot, Cyrus and Courier (package lab), Cyrus both over IMAP
// and over JMAP; the clients are curl, fetchmail, mutt, s-nail, Sylpheed, Python's
// poplib, Perl's Net::POP3 and Jakarta Mail, each without TLS, with STLS and with
// TLS from the first octet. What a deletion left behind is judged by the server
// itself, read over IMAP with code that shares nothing with the gateway. What
// stands in front of the gateway is HAProxy, and OpenSSL where old devices know
// TLS 1.0 alone; what stands beside it is nginx, which asks the same auth_http
// service.
// Prometheus scrapes a gateway under load with the alerts of
// deploy/prometheus, each of which is made to fire and to clear.
// What the pages of deploy/docs show, and the configurations of deploy/examples, are
// used as they stand, with getmail, mpop and nginx's streams too.
//
// The tests run where POPGATE_LAB names a folder that deploy/test.sh prepared:
// the popgate binary, and the unpacked packages that Debian does not install
// side by side. Without it each of them is skipped by name.
//
// POPGATE_FRONT=dovecot puts Dovecot's own POP3 service in the place of the
// gateway. The client tests must pass there too: a failure that shows with
// both is the test's.
package realtest
