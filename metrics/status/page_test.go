package status_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/popgate/popgate/metrics"
	"github.com/popgate/popgate/metrics/status"
)

// gap stands between a number and its unit.
const gap = "\u00a0"

// has fails the test where the page lacks one of these, and hasNot where it has one.
func (b *bench) has(t *testing.T, wanted ...string) {
	t.Helper()
	page := b.body(t)
	for _, want := range wanted {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func (b *bench) hasNot(t *testing.T, unwanted ...string) {
	t.Helper()
	page := b.body(t)
	for _, no := range unwanted {
		if at := strings.Index(page, no); at >= 0 {
			t.Errorf("the page holds %q: %.120s", no, page[max(0, at-60):])
		}
	}
}

// tile is how a tile is written.
func tile(name, value, more string) string {
	return fmt.Sprintf(`<dt>%s</dt><dd class="large">%s</dd><dd class="muted">%s</dd>`, name, value, more)
}

func TestTheHourForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		for range 5 {
			b.m.Login("user", "refused")
			b.m.Throttled("address")
		}
		b.after(every)
		b.has(t, tile("Logins", "0", "5 refused, 0 failed"), "What is not now is of the time since the start")
		b.after(time.Hour - every)
		b.has(t, tile("Logins", "0", "5 refused, 0 failed"))
		b.after(2 * every)
		b.has(t, tile("Logins", "0", "0 refused, 0 failed"), "What is not now is of the last hour",
			`<th scope="row">throttle.guesses, by address</th><td class="">20</td><td class="number ">0</td><td class="number ">5</td>`)
	})
}

func TestGaugesKeepTheirPeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		for range 7 {
			b.m.SessionBegan()
		}
		b.after(every)
		for range 5 {
			b.m.SessionEnded("pop3://0.0.0.0:110", "quit")
		}
		b.after(every)
		b.has(t, tile("Sessions", "2", "open now, 7 at most"), "open <b>2</b>", `<th scope="row">quit</th><td class="number">5</td><td class="number">5</td>`)
	})
}

// A minute is counted as it was; a shorter time is not stretched to one.
func TestRatesAreOfTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		b.m.Retrieved(1000, true)
		b.after(every)
		b.has(t, "sent <b>1</b>")
		for range 12 {
			b.m.Retrieved(1000, true)
			b.after(every)
		}
		b.has(t, "sent <b>6</b>", tile("Messages", "13", "13"+".0"+gap+"kB"))
		b.after(time.Minute)
		b.has(t, "sent <b>0</b>")
	})
}

// Buckets are at 5, 50 and 250 ms, at 1 and 5 s.
func TestTimesTellNoMoreThanBucketsDo(t *testing.T) {
	for _, tt := range []struct {
		name string
		took []time.Duration
		want string
	}{
		{"below_all", []time.Duration{time.Millisecond}, "<td class=\"word\">&lt;" + gap + "5" + gap + "ms<small>95" + gap + "%: &lt;" + gap + "5" + gap + "ms<"},
		{"within_one", []time.Duration{100 * time.Millisecond}, "<td class=\"word\">≈" + gap + "150" + gap + "ms<small>95" + gap + "%: ≈" + gap + "240" + gap + "ms<"},
		{"above_all", []time.Duration{time.Minute}, "<td class=\"word\">&gt;" + gap + "5" + gap + "s<small>95" + gap + "%: &gt;" + gap + "5" + gap + "s<"},
		{"in_two", []time.Duration{time.Millisecond, time.Millisecond, 2 * time.Second}, "<td class=\"word\">&lt;" + gap + "5" + gap + "ms<small>95" + gap + "%: ≈" + gap + "4.4" + gap + "s<"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, facts())
				for _, d := range tt.took {
					b.one.Request("fetch", "ok", d)
				}
				b.after(every)
				b.has(t, tt.want)
			})
		})
	}
}

func TestWhatFailsIsToLookAt(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(b *bench)
		want string
	}{
		{"a_mail_server_that_does_not_answer", func(b *bench) { b.one.Request("connect", "unavailable", time.Second) },
			"The last requests all failed, just now: unavailable. They went to imaps://imap.example.net:993."},
		{"a_fault", func(b *bench) { b.m.Panicked() }, "1 fault in the program since the start"},
		{"kept", func(b *bench) { b.m.Deletions(metrics.Kept, 2) }, "2 deletions did not take effect"},
		{"a_size", func(b *bench) { b.m.SizeMismatch("upstream") }, "1 message had another size than imaps://imap.example.net:993 listed."},
		{"a_certificate", func(b *bench) {
			b.m.CertificateShown("pop3s://0.0.0.0:995", time.Now().Add(13*24*time.Hour+every))
		}, "The certificate of pop3s://0.0.0.0:995 expires in 13" + gap + "d."},
		{"a_certificate_too_late", func(b *bench) { b.m.CertificateShown("pop3s://0.0.0.0:995", time.Now()) },
			"The certificate of pop3s://0.0.0.0:995 has expired."},
		{"a_new_certificate", func(b *bench) {
			b.m.CertificateShown("pop3s://0.0.0.0:995", time.Now().Add(365*24*time.Hour))
			b.m.CertificateReloadFailed("pop3s://0.0.0.0:995")
		}, "The certificate files of pop3s://0.0.0.0:995 are of no use"},
		{"a_configuration", func(b *bench) { b.m.ConfigLoaded(time.Now()); b.m.ConfigReloadFailed() }, "The configuration was wrong when it was last read"},
		{"unique_ids", func(b *bench) { b.one.UniqueIDsChanged() }, "1 mailbox was renumbered: clients fetch all of the mail there again. The mail server is imaps://imap.example.net:993."},
		{"connections_near_the_limit", func(b *bench) { b.m.ConnectionsLimit(1); b.m.Connection("pop3://0.0.0.0:110", 1) }, "1 of 1 connections are open."},
		{"the_limit_on_connections", func(b *bench) { b.m.Rejected("connections") }, "1 connection was turned away because so many are open."},
		{"a_refusal_is_an_answer", func(b *bench) { b.one.Request("login", "refused", time.Second) }, "Nothing here needs attention."},
		{"one_answer_is_enough", func(b *bench) {
			b.one.Request("connect", "unavailable", time.Second)
			b.one.Request("connect", "ok", time.Second)
		}, "Nothing here needs attention."},
		{"a_limit_on_one_client_is_at_work", func(b *bench) { b.m.Rejected("address"); b.m.Throttled("address") }, "Nothing here needs attention."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := facts()
				f.Warnings = nil
				b := newBench(t, f)
				b.has(t, "Nothing here needs attention.")
				tt.do(b)
				b.after(every)
				b.has(t, tt.want)
			})
		})
	}
}

// What is told of a mail server comes from its answers: the last of each kind.
func TestAnswersOfAMailServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		b.has(t, "No request yet.")
		b.one.Request("connect", "ok", time.Millisecond)
		b.after(2 * every)
		b.one.Request("connect", "unavailable", time.Second)
		b.one.Request("connect", "unavailable", time.Second)
		b.after(10 * every)
		b.has(t, `<td class="bad">unavailable 1`+gap+`min ago, 2 in the hour<small>ok 1`+gap+`min ago</small></td>`)
		b.one.Request("connect", "ok", time.Millisecond)
		b.after(every)
		b.has(t, `<td class="">ok just now<small>unavailable 1`+gap+`min ago, 2 in the hour</small></td>`)
		b.after(time.Hour)
		b.has(t, `<td class="">ok 1`+gap+`h 0`+gap+`min ago<small>unavailable 1`+gap+`h 1`+gap+`min ago</small></td>`)
	})
}

// mailServer is the row of a mail server.
func mailServer(url, open, made, class, health, answers string) string {
	return fmt.Sprintf(`<wbr>%s</span><small>TLS</small></th><td class="number">%s</td><td class="number">%s</td><td class="%s">%s%s</td>`, url, open, made, class, health, answers)
}

// Of several mail servers it is seen which one is down, also when its trouble is
// between the answers of another.
func TestEachMailServerHasItsHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, status.Facts{Upstreams: []status.Upstream{
			{Name: "one", URL: "imaps://one", Security: "TLS"}, {Name: "two", URL: "imaps://two", Security: "TLS"}, {Name: "idle", URL: "imaps://idle", Security: "TLS"}}})
		all := b.upstreams("one", "two", "idle")
		all["one"].Request("login", "ok", time.Millisecond)
		all["two"].Request("connect", "unavailable", time.Second)
		all["two"].Connection(3)
		b.after(every)
		all["one"].Request("fetch", "ok", time.Millisecond)
		b.after(every)
		b.has(t, mailServer("one", "0", "2", "", "answers", "<small>ok just now</small>"),
			mailServer("two", "3", "1", "bad", "fails", "<small>unavailable 10"+gap+"s ago, 1 in the hour</small>"),
			mailServer("idle", "0", "0", "", "not asked yet", ""),
			"The last requests all failed, 10"+gap+"s ago: unavailable. They went to imaps://two.")
		b.hasNot(t, "They went to imaps://one.")
	})
}

// Mail servers without series of their own are one row more, as long as there are some.
func TestMailServersThatAreNotToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, status.Facts{})
		var names []string
		for i := range metrics.MaxUpstreams + 2 {
			names = append(names, fmt.Sprint("server-", i))
			b.facts.Upstreams = append(b.facts.Upstreams, status.Upstream{Name: names[i], URL: "imaps://" + names[i], Security: "TLS"})
		}
		b.upstreams(names...)[names[len(names)-1]].Request("connect", "unavailable", time.Second)
		b.after(every)
		b.has(t, mailServer(names[0], "0", "0", "", "not asked yet", ""),
			mailServer(names[len(names)-1], "0", "0", "", "not told apart", ""),
			"They went to others, together.")
		b.facts.Upstreams = b.facts.Upstreams[:1]
		b.upstreams(names[0])
		b.after(every)
		b.hasNot(t, "others, together")
	})
}

// What was known of a mail server goes with it: it is no trouble that it had some,
// and reloads without end leave nothing behind.
func TestAMailServerThatIsGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, status.Facts{})
		for i := range 100 {
			name := fmt.Sprint("server-", i)
			b.facts.Upstreams = []status.Upstream{{Name: name, URL: "imaps://" + name, Security: "TLS"}}
			one := b.upstreams(name)[name]
			b.after(every)
			b.has(t, mailServer(name, "0", "0", "", "not asked yet", ""), "Nothing here needs attention.")
			one.Request("connect", "unavailable", time.Second)
			b.after(every)
			b.has(t, "They went to imaps://"+name)
		}
		if n := b.page.Columns(); n >= 2*status.Most/3 {
			t.Errorf("%d columns are kept", n)
		}
	})
}

// Where the configuration that was read last is wrong is told, and no more of it.
func TestAConfigurationThatIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		b.m.ConfigLoaded(time.Now())
		b.m.ConfigReloadFailed()
		b.facts.Wrong = "popgate.yaml:3"
		b.after(every)
		b.has(t, "The configuration was wrong when it was last read (popgate.yaml:3); the one before is used on.")
		b.m.ConfigLoaded(time.Now())
		b.after(every)
		b.hasNot(t, "popgate.yaml:3")
	})
}

// A limit that is off is shown where something is counted all the same, and so is one
// that nobody has named.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		b.has(t, "limits.connections</th>")
		b.hasNot(t, "limits.mailbox-octets", "idle-time")
		b.m.LimitHit("idle-time")
		b.after(every)
		b.has(t, `<th scope="row">idle-time</th><td class="">–</td><td class="number warn">1</td><td class="number ">1</td>`)
	})
}

func TestRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		b.m.RouteLogin("scanners", metrics.LoginOK)
		b.m.RouteLogin("scanners", metrics.LoginFailed)
		b.m.RouteLogin("scanners", metrics.LoginFailed)
		b.after(every)
		b.has(t, `<th scope="row">scanners</th><td class="number">1</td><td class="number">0</td><td class="number">2</td>`)
	})
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		b.has(t, "Serving", "<title>popgate: serving</title>")
		b.ready = false
		b.has(t, "Not serving", "<title>popgate: not serving</title>")
	})
}

func TestHostileTextsAreNoMarkup(t *testing.T) {
	const hostile = "<script>alert(1)</script>\"'><img src=//example.net/x onerror=x>\x00\x1b[31m\r\n\u202e\u2028\xff"
	synctest.Test(t, func(t *testing.T) {
		f := facts()
		long := hostile + strings.Repeat("x", 1<<20)
		f.Listeners[0].URL, f.Listeners[0].Security, f.Upstreams[0].URL, f.Upstreams[0].Security = long, long, long, long
		f.Limits[0].Name, f.Limits[0].Setting, f.Warnings = hostile, long, []string{long}
		b := newBench(t, f, hostile)
		b.log.Error(long, "cause", hostile, "listener", hostile)
		b.m.CertificateShown(hostile, time.Now())
		b.after(every)
		page := b.body(t)
		if regexp.MustCompile(`<script|<img|onerror=x>[^&]|//example.net/x onerror=x>`).MatchString(page) {
			t.Error("a text became markup")
		}
		if i := strings.IndexFunc(page, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }); i >= 0 {
			t.Errorf("the page holds %q", page[i:i+4])
		}
		if n := strings.Count(page, "&lt;script&gt;alert(1)"); n < 8 {
			t.Errorf("the texts are shown %d times", n)
		}
		if len(page) > 32<<10 {
			t.Errorf("the page has %d octets", len(page))
		}
	})
}

func TestPageIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, status.Facts{})
		text := strings.Repeat("<&\"é", 1000)
		for i := range 1000 {
			b.facts.Listeners = append(b.facts.Listeners, status.Listener{Name: text, URL: text, Security: text})
			b.facts.Upstreams = append(b.facts.Upstreams, status.Upstream{URL: text, Security: text})
			b.facts.Limits = append(b.facts.Limits, status.Limit{Name: text, Setting: text})
			b.facts.Warnings = append(b.facts.Warnings, text)
			b.log.Warn(fmt.Sprint(i) + text)
		}
		b.after(every)
		page := b.body(t)
		if n := strings.Count(page, "<tr>"); n > 3*status.Rows+status.Lines+20 {
			t.Errorf("%d rows", n)
		}
		if len(page) > 512<<10 {
			t.Errorf("the page has %d octets", len(page))
		}
	})
}

// What is kept is bounded, whatever the registry holds.
func TestHistoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := prometheus.NewRegistry()
		ops := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "popgate_upstream_request_duration_seconds",
			Buckets: prometheus.LinearBuckets(1, 1, 100)}, []string{"op"})
		expiry := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "popgate_token_expiry_timestamp_seconds"}, []string{"route", "a"})
		r.MustRegister(ops, expiry)
		p := status.New(status.Options{Gatherer: r, Ready: func() bool { return true }, Facts: func() status.Facts { return status.Facts{} }})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); p.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		for i := range 500 {
			ops.WithLabelValues(fmt.Sprint(i)).Observe(float64(i))
			expiry.WithLabelValues(fmt.Sprint(i), "a").Set(1)
		}
		time.Sleep(every)
		synctest.Wait()
		if n := p.Columns(); n != status.Most {
			t.Errorf("%d columns are kept, want %d", n, status.Most)
		}
		b := &bench{page: p, path: "/"}
		if page := b.body(t); len(page) > 256<<10 {
			t.Errorf("the page has %d octets", len(page))
		}
	})
}

// Every time that something is good until is shown, whatever it is.
func TestTokensAreShownBesideCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		tokens := b.m.NewOAuth([]string{"office"}, nil)
		tokens.Accounts("office", 5, 0, 0, time.Now(), time.Now().Add(40*24*time.Hour))
		b.after(every)
		b.has(t, "office", "<small>oauth refresh token</small>", "39"+gap+"d")
		b.hasNot(t, "cannot get")
		tokens.Accounts("office", 4, 1, 0, time.Now(), time.Now())
		b.after(every)
		b.has(t, "1 account of the grant office cannot get an access token (failing)", "The oauth refresh token of office has expired.")
	})
}

// Every metric that the page reads exists.
func TestMetricsExist(t *testing.T) {
	m, _ := newMetrics()
	m.NewOAuth([]string{"office"}, nil)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	for _, name := range status.Names() {
		if !slices.Contains(names, name) {
			t.Errorf("%s does not exist", name)
		}
	}
}

func TestHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		h := b.get("/").Header
		for name, want := range map[string]string{
			"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		page := b.body(t)
		style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(page)
		digest := sha256.Sum256([]byte(style[1]))
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("Content-Security-Policy %q lacks %s", policy, want)
			}
		}
		if regexp.MustCompile(`(?i)<script|unsafe|style=|url\(|@import| on[a-z]+="`).MatchString(page + policy) {
			t.Error("there is something that the policy forbids")
		}
		if found := regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(page, -1); len(found) != 3 {
			t.Errorf("the page refers to %q", found)
		}
	})
}

func TestRefreshCanBeStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, facts())
		b.has(t, `<meta http-equiv="refresh" content="30">`, `href="?refresh=off"`)
		b.path = "/?refresh=off"
		b.hasNot(t, "http-equiv")
		b.has(t, "refresh by itself")
	})
}
