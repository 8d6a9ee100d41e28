package realtest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// browserTimeout bounds each answer of the browser.
const browserTimeout = 60 * time.Second

// A browser is a Chromium without a window, told what to do through two pipes (the
// DevTools protocol, one JSON text and a NUL for each message).
type browser struct {
	b       *bench
	in, out *os.File
	answers *bufio.Reader
	session string // of the one tab
	asked   int
	events  []event // since they were last taken
}

// A reply or an event of the browser.
type event struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// chromium starts a browser that finds no host but this one, to be stopped at the end
// of the test.
func (b *bench) chromium(t *testing.T) *browser {
	t.Helper()
	version, err := lab.PackageVersion(t.Context(), "chromium")
	if err != nil {
		t.Fatal(err)
	}
	report.version("chromium", version)
	commandsR, commandsW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	answersR, answersW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	profile := filepath.Join(b.Dir(), "chromium")
	cmd := exec.Command("chromium", "--headless=new", "--remote-debugging-pipe", "--user-data-dir="+profile,
		"--no-sandbox", // it is root here, and the page is ours
		"--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + profile, "LC_ALL=C.UTF-8"}
	cmd.ExtraFiles = []*os.File{commandsR, answersW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stderr = &said
	err = cmd.Start()
	commandsR.Close()
	answersW.Close()
	if err != nil {
		t.Fatal(err)
	}
	forget, err := b.Note("chromium", cmd.Process.Pid)
	if err != nil {
		t.Error(err)
	}
	c := &browser{b: b, in: commandsW, out: answersR, answers: bufio.NewReader(answersR)}
	t.Cleanup(func() {
		commandsW.Close()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		answersR.Close()
		forget()
		if t.Failed() {
			t.Logf("chromium:\n%s", clip(said.Bytes()))
		}
	})
	var target struct {
		ID string `json:"targetId"`
	}
	c.ask(t, "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		Session string `json:"sessionId"`
	}
	c.ask(t, "Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &attached)
	c.session = attached.Session
	for _, domain := range []string{"Page", "Network", "Log", "Runtime"} {
		c.ask(t, domain+".enable", nil, nil)
	}
	return c
}

// read reads one message.
func (c *browser) read(t *testing.T) event {
	t.Helper()
	_ = c.out.SetReadDeadline(time.Now().Add(browserTimeout))
	text, err := c.answers.ReadBytes(0)
	if err != nil {
		t.Fatalf("chromium says nothing: %v", err)
	}
	var e event
	if err := json.Unmarshal(text[:len(text)-1], &e); err != nil {
		t.Fatalf("chromium says %.200q: %v", text, err)
	}
	return e
}

// ask sends a command and waits for its reply; events that come before are kept.
func (c *browser) ask(t *testing.T, method string, params map[string]any, reply any) {
	t.Helper()
	c.asked++
	message := map[string]any{"id": c.asked, "method": method}
	if params != nil {
		message["params"] = params
	}
	if c.session != "" {
		message["sessionId"] = c.session
	}
	text, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.in.SetWriteDeadline(time.Now().Add(browserTimeout))
	if _, err := c.in.Write(append(text, 0)); err != nil {
		t.Fatalf("chromium: %v", err)
	}
	for {
		e := c.read(t)
		switch {
		case e.ID != c.asked:
			c.events = append(c.events, e)
			continue
		case e.Error != nil:
			t.Fatalf("chromium: %s: %s", method, e.Error.Message)
		}
		if reply != nil {
			if err := json.Unmarshal(e.Result, reply); err != nil {
				t.Fatalf("chromium: %s: %v", method, err)
			}
		}
		return
	}
}

// open loads a page as a screen of this width shows it, and returns the events
// that came with it.
func (c *browser) open(t *testing.T, url string, width int, scheme string) []event {
	t.Helper()
	c.ask(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	c.ask(t, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	c.events = nil
	c.ask(t, "Page.navigate", map[string]any{"url": url}, nil)
	loaded := func(e event) bool { return e.Method == "Page.loadEventFired" }
	for !anyOf(c.events, loaded) {
		c.events = append(c.events, c.read(t))
	}
	return c.events
}

func anyOf(events []event, is func(event) bool) bool {
	for _, e := range events {
		if is(e) {
			return true
		}
	}
	return false
}

// evaluate gives the value of an expression in the page.
func (c *browser) evaluate(t *testing.T, expression string, value any) {
	t.Helper()
	var reply struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception json.RawMessage `json:"exceptionDetails"`
	}
	c.ask(t, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &reply)
	if reply.Exception != nil {
		t.Fatalf("%s: %s", expression, reply.Exception)
	}
	if err := json.Unmarshal(reply.Result.Value, value); err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
}

// picture writes the whole page, as it is shown, into the folder of the tests.
func (c *browser) picture(t *testing.T, name string) {
	t.Helper()
	var size struct {
		Content struct {
			Width  float64 `json:"width"`
			Height float64 `json:"height"`
		} `json:"cssContentSize"`
	}
	c.ask(t, "Page.getLayoutMetrics", nil, &size)
	var shot struct {
		Data string `json:"data"`
	}
	c.ask(t, "Page.captureScreenshot", map[string]any{"captureBeyondViewport": true, "clip": map[string]any{
		"x": 0, "y": 0, "width": size.Content.Width, "height": size.Content.Height, "scale": 1}}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.b.Dir(), strings.ReplaceAll(name, "/", "-")+".png"), png, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}
