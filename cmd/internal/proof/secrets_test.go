package proof_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/popgate/popgate/cmd/internal/proof"
	"github.com/popgate/popgate/proxy/pop3"
	"github.com/popgate/popgate/upstream/imap"
	"github.com/popgate/popgate/upstream/imap/imaptest"
)

// secretsLog is where a logger writes: every line has to be one JSON object, and
// none may hold the secret of the moment in any form.
type secretsLog struct {
	mu    sync.Mutex
	lines int
	forms []string
	found []string
}

func (l *secretsLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines++
	line := string(p)
	var value map[string]any
	if err := json.Unmarshal(p, &value); err != nil || bytes.Count(p, []byte("\n")) != 1 {
		l.say("no JSON object on one line", line)
	}
	if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' }) {
		l.say("a control character", line)
	}
	plain := strings.ToLower(line + secretsTexts(value))
	for _, f := range l.forms {
		if strings.Contains(plain, strings.ToLower(f)) {
			l.say("a secret", line)
		}
	}
	return len(p), nil
}

func (l *secretsLog) say(what, line string) {
	if len(l.found) < 20 {
		l.found = append(l.found, what+": "+line)
	}
}

// secretsTexts is every string of a line, its escapes undone.
func secretsTexts(v any) string {
	switch v := v.(type) {
	case string:
		return "\x00" + v
	case map[string]any:
		var all strings.Builder
		for k, x := range v {
			all.WriteString("\x00" + k + secretsTexts(x))
		}
		return all.String()
	}
	return ""
}

// secretsForms is how a secret could show: as it is, its heart alone, and in the
// usual encodings.
func secretsForms(user, secret, heart string) []string {
	forms := []string{secret, heart, url.QueryEscape(secret), url.PathEscape(secret), hex.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(heart))}
	for _, text := range []string{secret, "\x00" + user + "\x00" + secret, user + "\x00" + user + "\x00" + secret} {
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
			forms = append(forms, e.EncodeToString([]byte(text)))
		}
	}
	for i := range 3 { // inside of anything else, at each of the three places
		enc := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", i) + heart))
		forms = append(forms, enc[4:len(enc)-3])
	}
	return forms
}

// secretsWorker is one engine with a log of its own.
type secretsWorker struct {
	r      *rand.Rand
	log    secretsLog
	srv    *imaptest.Server
	engine *pop3.Server
}

func newSecretsWorker(t *testing.T, seed uint64) *secretsWorker {
	w := &secretsWorker{r: rand.New(rand.NewPCG(seed, 19))}
	profiles := imaptest.Profiles()
	w.srv = imaptest.New(t, profiles[int(seed)%len(profiles)])
	w.srv.INBOX().Append("Subject: x\r\n\r\nx\r\n")
	logger := slog.New(slog.NewJSONHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.engine = fidelityEngine(t, w.srv, pop3.Options{Logger: logger}, imap.Options{Logger: logger})
	return w
}

func (w *secretsWorker) pick(from ...string) string { return from[w.r.IntN(len(from))] }

// text makes random text, with whatever could break a log.
func (w *secretsWorker) text(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(w.pick("a", "Z", "7", " ", `"`, `\`, "{", "}", "%", "\x1b[31m", "\x07", "\x7f", "\u2028", "é", "\xff", "<", "@", "/", "=", ","))
	}
	return b.String()
}

// session makes a session of several tries with one user and one password.
func (w *secretsWorker) session(t *testing.T) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	heart := make([]byte, 14)
	for i := range heart {
		heart[i] = letters[w.r.IntN(len(letters))]
	}
	user := w.pick("", "user", "ALICE@example.org", imaptest.DefaultUser) + w.text(w.r.IntN(6)) + w.pick("", "\r\n{\"level\":\"ERROR\"}", "\n", "\r")
	user = strings.TrimRight(user, " ") // which USER takes off
	secret := w.text(w.r.IntN(4)) + string(heart) + w.text(w.r.IntN(4))
	w.log.mu.Lock()
	w.log.forms = secretsForms(user, secret, string(heart))
	w.log.mu.Unlock()

	w.srv.Forget()
	switch w.r.IntN(4) {
	case 0: // a server that repeats what it was told
		echo := imaptest.Do(func(imaptest.Command) {})
		told := []string{secret, string(heart) + secret}
		if !strings.ContainsAny(user, "\r\n") { // else USER names another user
			told = append(told, base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+secret)))
		}
		for _, form := range told {
			line := strings.NewReplacer("\r", "", "\n", "").Replace(form)
			echo = imaptest.Raw(w.pick("{tag} NO no such user: ", "{tag} BAD LOGIN alice ", "* BYE LOGIN ", "{tag} NO [ALERT] "+strings.Repeat("x", 100+w.r.IntN(110))) + line + "\r\n{tag} NO x\r\n")
			if w.r.IntN(2) == 0 {
				break
			}
		}
		for _, verb := range []string{"LOGIN", "AUTHENTICATE", imaptest.CONTINUE} {
			w.srv.Before(verb, 0, echo)
		}
	case 1: // the right password, and a server that repeats it later
		user = imaptest.DefaultUser
		w.log.mu.Lock()
		w.log.forms = secretsForms(user, secret, string(heart))
		w.log.mu.Unlock()
		w.srv.SetPassword(user, secret)
		line := strings.NewReplacer("\r", "", "\n", "").Replace(secret)
		for _, verb := range []string{"EXAMINE", "SELECT", "UID FETCH", "UID STORE"} {
			if w.r.IntN(3) == 0 {
				w.srv.Before(verb, 0, imaptest.Raw(w.pick("* BYE ", "{tag} NO ", "* OK [ALERT] ", "{tag} BAD ")+line+"\r\n{tag} NO [ALERT] "+line+"\r\n"))
			}
		}
	}
	b64 := base64.StdEncoding.EncodeToString
	var commands strings.Builder
	for range 3 {
		commands.WriteString(w.pick(
			"USER "+user+"\r\nPASS "+secret+"\r\n",
			"USER "+user+"\r\nPASS "+secret+"\r\n",
			"AUTH PLAIN "+b64([]byte("\x00"+user+"\x00"+secret))+"\r\n",
			"AUTH PLAIN\r\n"+b64([]byte(user+"\x00"+user+"\x00"+secret))+"\r\n",
			"AUTH LOGIN\r\n"+b64([]byte(user))+"\r\n"+b64([]byte(secret))+"\r\n",
			"AUTH PLAIN "+secret+"\r\n",    // not base64
			"AUTH PLAIN\r\n"+secret+"\r\n", // nor this
			"AUTH "+string(heart)+"\r\n",   // no mechanism
			secret+"\r\n",                  // typed into the wrong window
			"PASS "+secret+"\r\n",          // without USER
			"APOP alice "+secret+"\r\n",    // no such command
			"AUTH PLAIN "+b64([]byte("\x00\x00"+secret))+"\r\n",
			"AUTH PLAIN "+b64([]byte("other\x00"+user+"\x00"+secret))+"\r\n",
		))
	}
	if w.r.IntN(50) == 0 {
		commands.WriteString("PASS " + secret + strings.Repeat("x", 17_000) + "\r\n")
	}
	fidelityPlay(t, w.engine, commands.String()+w.pick("RETR 1\r\nDELE 1\r\nQUIT\r\n", "QUIT\r\n", ""))
}

// TestNoSecretIsLogged lets many sessions log in with many passwords, right and
// wrong, through servers that repeat what they are told, and reads every line of
// the log at its most talkative.
func TestNoSecretIsLogged(t *testing.T) {
	want := proof.Pick(1000, 5000, 1_000_000)
	lines, sessions := 0, 0
	for seed := uint64(0); lines < want; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { // its server's journal ends with it
			w := newSecretsWorker(t, seed)
			for range 250 {
				w.session(t)
				sessions++
			}
			lines += w.log.lines
			for _, f := range w.log.found {
				t.Error(f)
			}
		})
		if t.Failed() {
			break
		}
	}
	proof.Report(t, "M19", lines >= want, "%d lines of %d sessions at debug level: each one JSON object, 0 secrets as they are, in base64, hex or percent form", lines, sessions)
}
