package realtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The status page in a real browser: as a gateway with a little load shows it, and
// as the tests of its package have written it down.
func TestStatusPage(t *testing.T) {
	b := newBench(t, "the status page in Chromium")
	if b.front != "" {
		t.Skip("this is a page of the gateway, which is not the front end here")
	}
	report.guard(t, "dovecot", "chromium", "")
	s := b.start(t, "dovecot")
	f := b.gateway(t, "page", "--upstream", s.upstream())
	user, pass, _ := s.account(t)
	s.judge(t, user, pass).deliver(t, newMessage(user, "page", 1, "", "text\r\n"))
	loginFails(t, f.pop3, user, "no "+pass, "AUTH")
	p := login(t, f.pop3, user, pass)
	p.multi(t, "RETR 1")
	p.ok(t, "DELE 1")
	p.ok(t, "QUIT")
	login(t, f.pop3, user, pass) // and stays

	live := "http://" + f.metrics + "/"
	shows(t, live, `<dt>Messages</dt><dd class="large">1<`)
	pages := map[string]string{"live": live}
	for _, name := range []string{"start", "minute", "wordy", "busy"} {
		file, err := filepath.Abs(filepath.Join(b.wd, "../../metrics/status/testdata", name+".html"))
		if err != nil {
			t.Fatal(err)
		}
		pages[name] = "file://" + file
	}
	c := b.chromium(t)
	for _, name := range []string{"live", "start", "minute", "wordy", "busy"} {
		for _, width := range []int{1280, 390, 320} {
			for _, scheme := range []string{"light", "dark"} {
				report.leaf(t, "dovecot", "chromium", "", fmt.Sprintf("%s_%d_%s", name, width, scheme), func(t *testing.T) {
					c.look(t, pages[name], width, scheme)
					c.picture(t, fmt.Sprintf("page-%s-%d-%s", name, width, scheme))
				})
			}
		}
	}
	report.progress("dovecot", "chromium")
}

// shows waits until the page has some text: what happened is seen with the next
// sample.
func shows(t *testing.T, url, want string) {
	t.Helper()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	client := http.Client{Timeout: 10 * time.Second}
	var text []byte
	for deadline := time.Now().Add(popTimeout); time.Now().Before(deadline); <-tick.C {
		r, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		text, err = io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), want) {
			return
		}
	}
	t.Fatalf("the page never has %q:\n%s", want, clip(text))
}

// look opens a page and holds it against what a page must be.
func (c *browser) look(t *testing.T, url string, width int, scheme string) {
	t.Helper()
	for _, e := range c.open(t, url, width, scheme) {
		switch e.Method {
		case "Network.requestWillBeSent":
			var p struct{ Request struct{ URL string } }
			if err := json.Unmarshal(e.Params, &p); err != nil {
				t.Fatal(err)
			}
			if p.Request.URL != url && !strings.HasPrefix(p.Request.URL, "data:") {
				t.Errorf("the page asks for %s", p.Request.URL)
			}
		case "Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown":
			t.Errorf("the console: %s", e.Params)
		}
	}
	var seen struct {
		Scroll, Inner, Scripts, Pictures, Empty int
		Ground                                  string
		Beyond                                  []string
	}
	c.evaluate(t, `({
		scroll: document.documentElement.scrollWidth, inner: innerWidth, scripts: document.scripts.length,
		pictures: document.querySelectorAll("figure svg[role=img]").length,
		empty: document.querySelectorAll("figure .empty").length,
		ground: getComputedStyle(document.body).backgroundColor,
		beyond: [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + " " + e.textContent.slice(0, 40)),
	})`, &seen)
	if seen.Scroll > seen.Inner || len(seen.Beyond) > 0 {
		t.Errorf("%d pixels are shown on %d: %q", seen.Scroll, seen.Inner, seen.Beyond)
	}
	if seen.Inner != width {
		t.Errorf("the screen has %d pixels, want %d", seen.Inner, width)
	}
	if seen.Scripts != 0 || seen.Pictures+seen.Empty != 6 {
		t.Errorf("%d scripts, %d pictures and %d without figures; want 0, and 6 together", seen.Scripts, seen.Pictures, seen.Empty)
	}
	if want := map[string]string{"light": "rgb(244, 246, 248)", "dark": "rgb(17, 21, 26)"}[scheme]; seen.Ground != want {
		t.Errorf("the ground is %s, want %s: is the style sheet in use?", seen.Ground, want)
	}
	c.named(t, seen.Pictures)
}

// named looks at the page as a screen reader does: each picture has a name, and each
// table is one.
func (c *browser) named(t *testing.T, pictures int) {
	t.Helper()
	type value struct {
		Value any `json:"value"`
	}
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name value
		}
	}
	c.ask(t, "Accessibility.getFullAXTree", nil, &tree)
	count := map[any]int{}
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		count[n.Role.Value]++
		if name, _ := n.Name.Value.(string); n.Role.Value == "image" && name == "" {
			t.Error("a picture has no name")
		}
	}
	var tables int
	c.evaluate(t, `document.querySelectorAll("table").length`, &tables)
	if count["image"] != pictures || count["table"] != tables || count["columnheader"] < 2*tables || tables == 0 {
		t.Errorf("a screen reader finds %v, and there are %d pictures and %d tables", count, pictures, tables)
	}
}
