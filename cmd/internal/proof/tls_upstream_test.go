package proof_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// tlsSecret is in no octet that may be sent in clear text.
const tlsSecret = "canary-9f2b"

// tlsLeaks reports whether text holds the credentials in any form.
func tlsLeaks(text string) bool {
	for _, form := range []string{tlsSecret, "alice", base64.StdEncoding.EncodeToString([]byte("\x00alice\x00" + tlsSecret)), base64.StdEncoding.EncodeToString([]byte(tlsSecret)), "AUTHENTICATE", "LOGIN "} {
		if strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// tlsSay is a server that offers STARTTLS, but for what say changes.
func tlsSay(ca *imaptest.CA, say map[string]hostileSay) *hostileServer {
	srv := newHostileServer(say)
	srv.tls = ca.ServerConfig()
	srv.polite["GREETING"] = "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] x\r\n"
	return srv
}

// tlsLogin logs alice in through the gateway, which requires STARTTLS.
func tlsLogin(t *testing.T, ca *imaptest.CA, srv *hostileServer, commands string) (got string, addresses []string) {
	t.Helper()
	var mu sync.Mutex
	var panics atomic.Int64
	config := ca.ClientConfig()
	store, err := imap.New(imap.Options{Host: "127.0.0.1", Security: imap.StartTLS, TLS: config, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		addresses = append(addresses, addr)
		return srv.Dial(ctx, network, addr)
	}})
	if err != nil {
		t.Fatal(err)
	}
	engine := hostileEngine(t, store, pop3.Options{Trace: hostileCounter(&panics)})
	got = string(fidelityPlay(t, engine, "USER alice\r\nPASS "+tlsSecret+"\r\n"+commands))
	srv.conns.Wait()
	if panics.Load() > 0 {
		t.Error("a panic")
	}
	return got, addresses
}

// TestSTARTTLSAttacks plays what can go wrong about STARTTLS with
// a server, or with somebody on the way to it.
func TestSTARTTLSAttacks(t *testing.T) {
	ca := imaptest.NewCA(t)
	raw, seq := hostileRaw, hostileSeq
	const caps = "* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n"
	at := func(moment string, say ...hostileSay) map[string]hostileSay {
		return map[string]hostileSay{moment: seq(say...)}
	}
	greet := func(text string) map[string]hostileSay { return at("GREETING", raw(text)) }
	const offers = "* OK [CAPABILITY IMAP4rev1 STARTTLS] x\r\n"
	cases := []struct {
		class, name string
		say         map[string]hostileSay
	}{
		{"T2", "capabilities_behind_the_ok", at("STARTTLS", raw("{tag} OK x\r\n"+caps))},
		{"T2", "tagged_ok_behind_the_ok", at("STARTTLS", raw("{tag} OK x\r\nA2 OK x\r\n"))},
		{"T2", "whole_dialogue_behind_the_ok", at("STARTTLS", raw("{tag} OK x\r\n"+caps+"A2 OK x\r\nA3 OK [CAPABILITY IMAP4rev1] logged in\r\n* 9 EXISTS\r\n"))},
		{"T2", "one_octet_behind_the_ok", at("STARTTLS", raw("{tag} OK x\r\n*"))},
		{"T2", "empty_line_behind_the_ok", at("STARTTLS", raw("{tag} OK x\r\n\r\n"))},
		{"T2", "ok_then_octets_in_a_segment_of_their_own", at("STARTTLS", raw("{tag} OK x\r\n"), raw(caps))},
		{"T2", "ok_then_a_second_ok", at("STARTTLS", raw("{tag} OK x\r\n"), raw("{tag} OK x\r\n"))},
		{"T2", "preauth_behind_the_ok", at("STARTTLS", raw("{tag} OK x\r\n* PREAUTH x\r\n"))},
		{"T3", "preauth", greet("* PREAUTH x\r\n")},
		{"T3", "preauth_with_starttls", greet("* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] x\r\n")},
		{"T3", "preauth_in_lower_case", greet("* preauth [capability imap4rev1 starttls] x\r\n")},
		{"T3", "stripped_from_the_greeting", greet("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] x\r\n")},
		{"T3", "stripped_from_the_capabilities", map[string]hostileSay{"GREETING": raw("* OK x\r\n"), "CAPABILITY": raw(caps + "{tag} OK x\r\n")}},
		{"T3", "stripped_by_a_letter", greet("* OK [CAPABILITY IMAP4rev1 XSTARTTLS AUTH=PLAIN] x\r\n")},
		{"T3", "capability_is_refused", map[string]hostileSay{"GREETING": raw("* OK x\r\n"), "CAPABILITY": raw("{tag} NO x\r\n")}},
		{"T3", "no", at("STARTTLS", raw("{tag} NO x\r\n"))},
		{"T3", "bad", at("STARTTLS", raw("{tag} BAD x\r\n"))},
		{"T3", "no_with_capabilities", at("STARTTLS", raw(caps+"{tag} NO [CAPABILITY IMAP4rev1 AUTH=PLAIN] x\r\n"))},
		{"T3", "bye_greeting", greet("* BYE x\r\n")},
		{"T3", "bye_to_starttls", at("STARTTLS", raw("* BYE x\r\n"))},
		{"T3", "bye_then_ok", at("STARTTLS", raw("* BYE x\r\n{tag} OK x\r\n"))},
		{"T3", "tagged_ok_in_the_greeting", greet("A1 OK x\r\n")},
		{"T3", "ok_before_the_command", greet(offers + "A1 OK x\r\n")},
		{"T3", "ok_before_the_command_by_a_guess", greet(offers + "p000000001 OK x\r\n")},
		{"T3", "ok_with_the_tag_of_the_command_before", map[string]hostileSay{"GREETING": raw("* OK x\r\n"),
			"CAPABILITY": raw("* CAPABILITY IMAP4rev1 STARTTLS\r\n{tag} OK x\r\n{tag} OK x\r\n")}},
		{"T3", "untagged_ok_only", at("STARTTLS", raw("* OK x\r\n"), hostileBye)},
		{"T3", "continuation", at("STARTTLS", raw("+ go\r\n"))},
		{"T3", "foreign_tag", at("STARTTLS", raw("x OK x\r\n"))},
		{"T3", "the_end", at("STARTTLS", hostileBye)},
		{"T3", "silence", at("STARTTLS", hostileStall)},
		{"T3", "ok_and_silence", at("STARTTLS", raw("{tag} OK x\r\n"), hostileStall)},
		{"T3", "ok_and_the_end", at("STARTTLS", raw("{tag} OK x\r\n"), hostileBye)},
		{"T3", "ok_and_clear_text", at("STARTTLS", raw("{tag} OK x\r\n"))},
		{"T3", "ok_and_an_alert", at("STARTTLS", raw("{tag} OK x\r\n"), raw("\x15\x03\x01\x00\x02\x02\x28"))},
		{"T3", "ok_and_half_a_record", at("STARTTLS", raw("{tag} OK x\r\n"), raw("\x16\x03\x03\x40\x00\x02"), hostileBye)},
		{"T3", "garbage", at("STARTTLS", raw("\x00\xff\r\n"))},
		{"T3", "endless_line", at("STARTTLS", hostileTimes(1<<20, "x"))},
		{"T4", "referral_in_the_greeting", greet("* BYE [REFERRAL imap://127.0.0.2/] x\r\n")},
		{"T4", "referral_to_starttls", at("STARTTLS", raw("{tag} NO [REFERRAL imap://alice@127.0.0.2:1143/] x\r\n"))},
		{"T4", "referral_with_bye", at("STARTTLS", raw("* BYE [REFERRAL imap://127.0.0.2/] x\r\n{tag} NO x\r\n"))},
	}
	classes := map[string]int{}
	for _, c := range cases {
		t.Run(c.class+"/"+c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := tlsSay(ca, c.say)
				srv.then = c.class == "T2" // where all goes on as if nothing had been
				got, addresses := tlsLogin(t, ca, srv, "QUIT\r\n")
				if tlsLeaks(srv.clearText()) {
					t.Errorf("in clear text went %q", srv.clearText())
				}
				if !strings.HasPrefix(got, "+OK POP3 ready\r\n+OK\r\n-ERR [SYS/") {
					t.Errorf("the client saw %q", got)
				}
				for _, a := range addresses {
					if a != "127.0.0.1:143" {
						t.Errorf("a connection to %s", a)
					}
				}
			})
			classes[c.class]++
		})
	}

	// A server with old TLS only is as good as one without.
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		srv := tlsSay(ca, nil)
		srv.tls.MinVersion, srv.tls.MaxVersion = tls.VersionTLS10, version
		if got, _ := tlsLogin(t, ca, srv, "QUIT\r\n"); tlsLeaks(srv.clearText()) || strings.Contains(got, "logged in") {
			t.Errorf("TLS version %x: the client saw %q", version, got)
		}
		classes["T3"]++
	}

	// Data of the mailbox before TLS and before login changes nothing.
	const session = "STAT\r\nLIST\r\nUIDL\r\nRETR 2\r\nDELE 3\r\nQUIT\r\n"
	control, _ := tlsLogin(t, ca, tlsSay(ca, nil), session)
	if !strings.Contains(control, "+OK bye, the marked messages are removed") {
		t.Fatalf("without an enemy: %q", control)
	}
	for _, line := range []string{
		"* 900 EXISTS", "* 0 EXISTS", "* 1 EXPUNGE", "* 3 RECENT", "* 1 FETCH (UID 1 RFC822.SIZE 1)", "* 9 FETCH (UID 9 FLAGS (\\Deleted))",
		"* 1 FETCH (UID 2 BODY[] {4}\r\nEVIL)", "* LIST (\\Trash) \"/\" INBOX", "* LSUB () \"/\" x", "* SEARCH 1 2 3", "* ESEARCH UID ALL 1:9", "* STATUS INBOX (MESSAGES 9)",
		"* FLAGS (x)", "* OK [UIDVALIDITY 99] x", "* OK [UIDNEXT 2] x", "* OK [PERMANENTFLAGS ()] x", "* OK [READ-ONLY] x", "* NO [ALERT] x", "* VANISHED 1:3", "* NAMESPACE NIL NIL NIL", "* X-THING x",
	} {
		for _, moment := range []string{"STARTTLS", "CAPABILITY", "AUTHENTICATE"} {
			t.Run(fmt.Sprintf("T5/%s/%s", moment, strings.Fields(line)[1]), func(t *testing.T) {
				srv := tlsSay(ca, nil)
				text, ok := srv.polite[moment]
				if !ok {
					text = srv.polite[""]
				}
				srv.polite[moment] = line + "\r\n" + text
				got, _ := tlsLogin(t, ca, srv, session)
				if tlsLeaks(srv.clearText()) {
					t.Errorf("in clear text went %q", srv.clearText())
				}
				// A literal before login is no line of IMAP that the dialogue
				// has to understand: to refuse is as good.
				if got != control && !(strings.Contains(line, "{") && strings.Contains(got, "-ERR [SYS/TEMP]") && !strings.Contains(got, "logged in")) {
					t.Errorf("%s: the client saw\n%s\nand without an enemy\n%s", line, got, control)
				}
			})
			classes["T5"]++
		}
	}
	total := classes["T2"] + classes["T3"] + classes["T4"] + classes["T5"]
	proof.Report(t, "M9", true, "STARTTLS to the mail service, cases of our own in the classes: T2 %d, T3 %d, T4 %d, T5 %d, in all %d: 0 accepted, 0 octets of a credential in clear text",
		classes["T2"], classes["T3"], classes["T4"], classes["T5"], total)
}
