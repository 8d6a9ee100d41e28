package realtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A client is a POP3 program. visit runs it once: it fetches what it has not
// seen before, deletes if asked to, and returns the messages that it stored.
type client struct {
	name    string
	pkg     string // Debian package, for its version
	visit   func(t *testing.T, v *visit) [][]byte
	form    func(octets []byte) []byte // what it stores for a message
	removes []int                      // message numbers that a deleting visit removes
}

// removed are the numbers that clients which can choose delete.
var removed = []int{2, 5, 11}

func clients() []client {
	return []client{
		{"curl", "curl", visitCurl, wireForm, removed},
		{"fetchmail", "fetchmail", visitFetchmail, fetchmailForm, []int{1, 2, 3}},
		{"mutt", "mutt", visitMutt, lfForm, removed},
		{"s-nail", "s-nail", visitSnail, snailForm, removed},
		{"sylpheed", "sylpheed", visitSylpheed, lfForm, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		{"poplib", "python3", visitPython, wireForm, removed},
		{"net-pop3", "perl", visitPerl, lfForm, removed},
		{"jakarta", "libjakarta-mail-java", visitJakarta, wireForm, removed},
	}
}

func (v *visit) removeList(sep string) string {
	if !v.remove {
		return ""
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(removed), " ", sep), "[]")
}

// visitCurl plays a shell script around curl: it lists the unique-ids, fetches
// those it has no file for in one connection, and deletes by number.
func visitCurl(t *testing.T, v *visit) [][]byte {
	scheme := "pop3"
	args := []string{"curl", "-sS", "--max-time", "50", "-u", v.user + ":" + v.pass, "--cacert", v.ca}
	switch v.mode {
	case stls:
		args = append(args, "--ssl-reqd")
	case tls:
		scheme = "pop3s"
	}
	base := fmt.Sprintf("%s://%s:%s/", scheme, v.host, v.port)
	fetch := args
	for line := range strings.Lines(v.run(t, "", nil, append(args[:len(args):len(args)], "-X", "UIDL", base)...)) {
		n, uid, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		file := filepath.Join(v.inbox(), uid)
		if _, err := os.Stat(file); err != nil {
			fetch = append(fetch[:len(fetch):len(fetch)], base+n, "-o", file)
		}
	}
	if len(fetch) > len(args) {
		v.run(t, "", nil, fetch...)
	}
	if v.remove {
		var session []string
		for _, n := range removed {
			if session != nil {
				session = append(session, "--next")
			} else {
				session = []string{"curl"}
			}
			session = append(append(session, args[1:]...), "-X", fmt.Sprint("DELE ", n), "-I", base)
		}
		v.run(t, "", nil, session...)
	}
	return v.arrived(t, v.inbox())
}

func visitFetchmail(t *testing.T, v *visit) [][]byte {
	options := "keep"
	if v.remove {
		options = "nokeep fetchall fetchlimit 3"
	}
	return runFetchmail(t, v, "uidl", options)
}

// runFetchmail polls once. fetchmail would add a Received header, rewrite
// addresses and strip CRs; it has an option against each.
func runFetchmail(t *testing.T, v *visit, serverOptions, options string) [][]byte {
	switch v.mode {
	case plain:
		options += " sslproto ''"
	case stls:
		options += fmt.Sprintf(" sslproto TLS1.2+ sslcertck sslcertfile %q", v.ca)
	case tls:
		options += fmt.Sprintf(" ssl sslcertck sslcertfile %q", v.ca)
	}
	rc := v.write(t, "fetchmailrc", fmt.Sprintf(`set no bouncemail
set no syslog
set invisible
set idfile %q
poll %s protocol pop3 port %s timeout 20 %s
  user %q password %q no rewrite no stripcr pass8bits %s
  mda "f=$(mktemp %s/m.XXXXXX) && cat >$f"
`, filepath.Join(v.dir, "ids"), v.host, v.port, serverOptions, v.user, v.pass, options, v.inbox()))
	const noMail = 1
	v.run(t, "", []int{noMail, 13}, "fetchmail", "-v", "--nodetach", "--nosyslog", "-f", rc, "--pidfile", filepath.Join(v.dir, "pid"))
	return v.arrived(t, v.inbox())
}

// fetchmailForm: a message without the empty line behind its header gets one.
func fetchmailForm(octets []byte) []byte {
	octets = wireForm(octets)
	if !bytes.Contains(octets, []byte("\r\n\r\n")) {
		octets = append(bytes.Clone(octets), "\r\n"...)
	}
	return octets
}

// visitMutt opens the maildrop as a folder, with caches of headers and bodies,
// copies every message into a Maildir, and deletes by pattern. What mutt
// fetched anew is what is new in its cache of bodies, which holds lines with LF
// ends.
func visitMutt(t *testing.T, v *visit) [][]byte {
	scheme, starttls := "pop", "no"
	switch v.mode {
	case stls:
		starttls = "yes"
	case tls:
		scheme = "pops"
	}
	rc := v.write(t, "muttrc", fmt.Sprintf(`set pop_user=%q pop_pass=%q pop_checkinterval=600
set ssl_starttls=%s ssl_force_tls=%s ssl_ca_certificates_file=%q ssl_verify_dates=yes ssl_verify_host=yes
set header_cache=%q message_cachedir=%q
set folder=%q mbox_type=Maildir confirmappend=no confirmcreate=no wait_key=no quit=yes delete=yes move=no record="" spoolfile=""
`, v.user, v.pass, starttls, starttls, v.ca, filepath.Join(v.dir, "headers"), filepath.Join(v.dir, "bodies"), v.dir))
	keys := "<tag-pattern>~A<enter><tag-prefix><copy-message>=copies<enter>"
	if v.remove {
		keys = ""
		for _, n := range removed {
			keys += fmt.Sprintf("<delete-pattern>~m %d<enter>", n)
		}
		keys += "<sync-mailbox>"
	}
	v.terminal(t, "mutt", "-n", "-F", rc, "-e", fmt.Sprintf("push '%s<quit>'", keys),
		"-f", fmt.Sprintf("%s://%s:%s", scheme, v.host, v.port))
	var out [][]byte
	err := filepath.WalkDir(filepath.Join(v.dir, "bodies"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			out = append(out, v.arrived(t, path)...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// visitSnail reads the maildrop as a folder. s-nail keeps no unique-ids: its
// first visit copies everything, a later one looks at the headers alone, as a
// person would.
func visitSnail(t *testing.T, v *visit) [][]byte {
	scheme := "pop3"
	args := []string{"s-nail", "-n", "-S", "v15-compat", "-S", "pop3-no-apop", "-S", "newfolders=maildir",
		"-S", "tls-ca-no-defaults", "-S", "tls-ca-file=" + v.ca, "-S", "tls-verify=strict"}
	switch v.mode {
	case stls:
		args = append(args, "-S", "pop3-use-starttls")
	case tls:
		scheme = "pop3s"
	}
	args = append(args, "-f", fmt.Sprintf("%s://%s:%s@%s:%s", scheme, strings.ReplaceAll(v.user, "@", "%40"), v.pass, v.host, v.port))
	copies := filepath.Join(v.dir, "copies")
	script := "headers\nxit\n"
	if v.remove {
		script = "delete " + v.removeList(" ") + "\nquit\n"
	} else if _, err := os.Stat(copies); err != nil {
		script = "copy * " + copies + "\nxit\n"
	}
	v.run(t, script, nil, args...)
	var out [][]byte
	for _, sub := range []string{"new", "cur"} {
		for _, m := range v.arrived(t, filepath.Join(copies, sub)) {
			out = append(out, snailStatus.ReplaceAll(m, nil))
		}
	}
	return out
}

// snailForm: lines with LF ends, and an empty line behind each message.
func snailForm(octets []byte) []byte {
	octets = lfForm(octets)
	if !bytes.HasSuffix(octets, []byte("\n\n")) {
		octets = append(octets, '\n')
	}
	return octets
}

// snailStatus is the header that s-nail adds to what it copies.
var snailStatus = regexp.MustCompile(`(?m)^(Status|X-Status): [A-Z]*\n`)

func visitPython(t *testing.T, v *visit) [][]byte {
	return v.script(t, "/usr/bin/python3", v.bench.testdata("fetch.py"))
}

func visitPerl(t *testing.T, v *visit) [][]byte {
	return v.script(t, "/usr/bin/perl", v.bench.testdata("fetch.pl"))
}

// visitJakarta runs the program that bench.java compiled. Jakarta Mail reads
// authorities from a Java trust store; a PEM file is one since Java 9 only by
// way of a key store of type PKCS12, which bench.java made.
func visitJakarta(t *testing.T, v *visit) [][]byte {
	j := v.bench.java(t)
	return v.script(t, "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", j.classPath,
		"-Djavax.net.ssl.trustStore="+j.trustStore, "-Djavax.net.ssl.trustStorePassword="+j.password, "Fetch")
}

// script runs one of the programs of testdata, which share their arguments.
func (v *visit) script(t *testing.T, argv ...string) [][]byte {
	argv = append(argv, v.host, v.port, v.mode, v.ca, v.user, v.pass, v.inbox())
	if v.remove {
		argv = append(argv, v.removeList(","))
	}
	v.run(t, "", nil, argv...)
	return v.arrived(t, v.inbox())
}

// terminal runs a program that wants a terminal. script(1) provides one; its
// input stays open, as a keyboard would.
func (v *visit) terminal(t *testing.T, argv ...string) {
	t.Helper()
	quoted := make([]string, len(argv))
	for i, a := range argv {
		quoted[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	ctx, cancel := context.WithTimeout(t.Context(), visitTimeout)
	defer cancel()
	cmd := v.command(ctx, "script", "-qec", strings.Join(quoted, " "), "/dev/null")
	keyboard, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer keyboard.Close()
	var screen bytes.Buffer
	cmd.Stdout, cmd.Stderr = &screen, &screen
	v.check(t, argv[0], screen.Bytes(), cmd.Run(), nil)
	if t.Failed() {
		t.Logf("screen: %q", clip(screen.Bytes()))
	}
}
