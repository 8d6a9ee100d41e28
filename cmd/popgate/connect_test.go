package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/popgate/popgate/upstream/imap/imaptest"
	"github.com/popgate/popgate/upstream/jmap/jmaptest"
)

// closedPort is a loopback address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestCheckConnectTellsEachStep(t *testing.T) {
	ca := imaptest.NewCA(t)
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ending := ca.Issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) })
	tokens := imaptest.Full()
	tokens.Auth, tokens.LoginDisabled = []string{"XOAUTH2"}, true
	server := func(p imaptest.Profile, o ...imaptest.Option) string {
		return imaptest.New(t, p, append(o, imaptest.TCP())...).Addr()
	}
	jmap, err := url.Parse(jmaptest.New(t, jmaptest.Options{TCP: true}).URL)
	if err != nil {
		t.Fatal(err)
	}
	secure := imaptest.ImplicitTLS(ca)
	for _, tt := range []struct {
		name, upstream string
		args           []string
		code           int
		want           []string // patterns of standard output, in this order
	}{
		{"clear_text", "imap://" + imapServer(t, 1), nil, 0, []string{`connect +ok .*127\.0\.0\.1`, `answer +ok .*LOGIN PLAIN`, `offers .*IMAP4REV1`}},
		{"tls", "imaps://" + server(imaptest.Full(), secure), []string{"--upstream-ca", caFile}, 0,
			[]string{`connect +ok`, `tls +ok .*TLS 1\.3, certificate of imap\.example\.test by test authority, until 2100`, `answer +ok`}},
		{"jmap", "jmap+http://" + jmap.Host, nil, 0, []string{`connect +ok`, `answer +ok .*Basic`}},
		{"a_name", "imap://localhost" + strings.TrimPrefix(imapServer(t, 1), "127.0.0.1"), nil, 0, []string{`lookup +ok .*127\.0\.0\.1`, `connect +ok`}},
		{"nothing_listens", "imap://" + closedPort(t), nil, 1, []string{`connect +FAIL .*refused\n.*what to do: nothing listens there`}},
		{"nobody_trusts_it", "imaps://" + server(imaptest.Full(), secure), nil, 1, []string{`tls +FAIL .*unknown authority\n.*upstream\.ca`}},
		{"no_tls_there", "imaps://" + imapServer(t, 1), nil, 1, []string{`tls +FAIL .*\n.*STARTTLS`}},
		{"no_starttls", "imap://" + server(imaptest.Full()), []string{"--upstream-tls", "starttls"}, 1, []string{`answer +FAIL .*does not offer STARTTLS`}},
		{"a_certificate_that_ends", "imaps://" + server(imaptest.Full(), secure, imaptest.TLSConfig(&tls.Config{Certificates: []tls.Certificate{ending}})),
			[]string{"--upstream-ca", caFile}, 0, []string{`warning: .*certificate ends on`, `answer +ok`}},
		{"tokens_alone", "imap://" + server(tokens), nil, 0, []string{`answer +ok .*XOAUTH2`, `warning: route all has passwords, and the server takes none`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"check", "--connect", "--listen", "pop3://127.0.0.1:0", "--upstream", tt.upstream}, tt.args...)
			code, stdout, stderr := process(t, "", args...)
			if code != tt.code || (stderr != "") != (code != 0) {
				t.Errorf("exit code %d, want %d; stderr %q", code, tt.code, stderr)
			}
			if !regexp.MustCompile(`(?s)` + strings.ReplaceAll(strings.Join(tt.want, "\x00"), "\x00", ".*\n.*")).MatchString(stdout) {
				t.Errorf("it prints\n%s\nwant %q", stdout, tt.want)
			}
			var found checkJSON
			code, stdout, stderr = process(t, "", append(args, "--json")...)
			if err := json.Unmarshal([]byte(stdout), &found); err != nil || code != tt.code || stderr != "" {
				t.Fatalf("--json: exit code %d, %v, stderr %q\n%s", code, err, stderr, stdout)
			}
			if ok := code == 0; found.OK != ok || len(found.Upstreams) != 1 || found.Upstreams[0].OK != ok || found.Login != nil || ok == (found.Error != "") {
				t.Errorf("--json: %+v", found)
			}
		})
	}
}

// check --user goes the way of a session, and leaves the mailbox as it was.
func TestCheckLogsInAndChangesNothing(t *testing.T) {
	srv := imaptest.New(t, imaptest.WithoutMOVE().With("OBJECTID"), imaptest.TCP())
	box := srv.INBOX()
	box.Append(message(1))
	box.Append(message(2))
	srv.Mailbox(imaptest.DefaultUser, "Bin", `\Trash`)
	srv.Mailbox(imaptest.DefaultUser, "Large").Append(strings.Repeat("x", 1_000_001))
	before := len(srv.Journal().Mutations())
	file := writeConfig(t, "listen: pop3://127.0.0.1:0\nupstream: {url: imap://"+srv.Addr()+"}\nledger: {file: ledger}\nlimits: {mailbox-octets: 1000000}\nroutes:\n"+
		"  - {name: new, match: {users: [nobody]}, window: {newest: 1}}\n  - {name: mine, match: {users: ["+imaptest.DefaultUser+"]}, window: {newest: 1}}\n")
	check := func(password string, args ...string) (int, string, string) {
		return process(t, password+"\n", append([]string{"check", "-c", file}, args...)...)
	}
	for _, tt := range []struct {
		name, password string
		args           []string
		code           int
		want           string // a pattern of standard output
	}{
		{"good", imaptest.DefaultPassword, nil, 0, `route +ok .*mine\n(.*\n)* +login +ok .*\n +list +ok .* 1 messages`},
		{"expunge", imaptest.DefaultPassword, nil, 0, `UIDPLUS +yes .*\n(.*\n)*.*deleted is expunged by its UID`},
		{"trash", imaptest.DefaultPassword, []string{"--delete", "trash"}, 0, `deleted is copied to "Bin", then expunged`},
		{"a_trash_that_is_the_mailbox", imaptest.DefaultPassword, []string{"--delete", "trash", "--trash", "INBOX"}, 0, `warning: a deletion would fail: .*the mailbox itself`},
		{"refuse", imaptest.DefaultPassword, []string{"--delete", "refuse"}, 0, `deleted is refused: DELE is an error`},
		{"too_big", imaptest.DefaultPassword, []string{"--mailbox", "Large"}, 1, `list +FAIL .*more octets than the limit of 1000000\n.*what to do: raise limits\.`},
		{"no_mailbox", imaptest.DefaultPassword, []string{"--mailbox", "None"}, 1, `list +FAIL .*mailbox "None"`},
		{"a_wrong_password", "canary", nil, 1, `login +FAIL .*\n.*what to do: try user and password`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := check(tt.password, append(tt.args, "--user", imaptest.DefaultUser)...)
			if code != tt.code || !regexp.MustCompile(tt.want).MatchString(stdout) {
				t.Errorf("exit code %d, want %d\n%s%s", code, tt.code, stdout, stderr)
			}
			if strings.Contains(stdout+stderr, tt.password) {
				t.Error("the password was printed")
			}
		})
	}
	if code, stdout, _ := check("x", "--user", "somebody"); code != 1 || !strings.Contains(stdout, `"popgate route" tells why`) {
		t.Errorf("a user without a route: %d\n%s", code, stdout)
	}
	code, stdout, _ := check(imaptest.DefaultPassword, "--json", "--user", imaptest.DefaultUser)
	var found checkJSON
	if err := json.Unmarshal([]byte(stdout), &found); err != nil || code != 0 {
		t.Fatalf("%d, %v\n%s", code, err, stdout)
	}
	if l := found.Login; l == nil || !l.OK || l.Route != "mine" || l.Mailbox != "INBOX" || l.Messages != 1 || l.Octets != int64(len(message(2))) || len(l.Abilities) == 0 {
		t.Errorf("--json: %+v", found.Login)
	}
	if after := srv.Journal().Mutations(); len(after) != before {
		t.Errorf("the mailbox was changed: %v", after[before:])
	}
	if n := len(srv.Journal().Commands("SELECT")); n != 0 {
		t.Errorf("SELECT was sent %d times", n)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "ledger")); err == nil {
		t.Error("the ledger of the gateway was made")
	}
}

func TestCheckLogsInOverJMAP(t *testing.T) {
	srv := jmaptest.New(t, jmaptest.Options{TCP: true})
	srv.Deliver([]byte(message(1)))
	at, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := process(t, jmaptest.Password+"\n", "check", "--listen", "pop3://127.0.0.1:0", "--upstream", "jmap+http://"+at.Host, "--user", jmaptest.User)
	if code != 0 || !strings.Contains(stdout, " 1 messages,") || !strings.Contains(stdout, "deleted is destroyed") || len(srv.Emails(jmaptest.Inbox)) != 1 {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

func TestRouteTellsScripts(t *testing.T) {
	file := writeConfig(t, "listen: [{url: pop3://127.0.0.1:0, name: old}]\nupstream: {url: imap://127.0.0.1}\n"+
		"routes:\n  - {name: sales, match: {domains: [example.net]}}\n")
	for _, tt := range []struct {
		args string
		code int
		want routeJSON
	}{
		{"a@example.net", 0, routeJSON{User: "a@example.net", Listener: "old", From: "127.0.0.1", Routes: []verdictJSON{{Route: "sales", Takes: true}},
			Way: &wayJSON{Route: "sales", ProvedBy: "the mail server", User: "a@example.net", Upstream: "upstream", URL: "imap://127.0.0.1:143",
				Mailbox: "INBOX", Delete: "expunge", Seen: "no"}}},
		{"a@example.com --from 192.0.2.7", 1, routeJSON{User: "a@example.com", Listener: "old", From: "192.0.2.7",
			Routes: []verdictJSON{{Route: "sales", Misfit: "domain"}}}},
	} {
		code, stdout, stderr := invoke(t, append([]string{"route", "--json", "-c", file}, strings.Fields(tt.args)...)...)
		var got routeJSON
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != tt.code || stderr != "" {
			t.Errorf("%s: exit code %d, %v, stderr %q", tt.args, code, err, stderr)
		}
		want := tt.want
		if !slices.Equal(got.Routes, want.Routes) || (got.Way == nil) != (want.Way == nil) || got.Way != nil && *got.Way != *want.Way ||
			got.User != want.User || got.Listener != want.Listener || got.From != want.From {
			t.Errorf("%s: %s", tt.args, stdout)
		}
	}
}
