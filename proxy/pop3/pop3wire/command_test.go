package pop3wire_test

import (
	"fmt"
	"testing"

	"github.com/popgate/popgate/proxy/pop3/pop3wire"
)

func TestParseCommand(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"QUIT", `"QUIT" [] true`},
		{"quit", `"QUIT" [] true`},
		{"qUiT   ", `"QUIT" [] true`},
		{"LIST 1", `"LIST" ["1"] true`},
		{"LIST 1  ", `"LIST" ["1"] true`},
		{"LIST  1", `"LIST" [] false`},
		{"TOP 1 10", `"TOP" ["1" "10"] true`},
		{"TOP 1  10", `"TOP" [] false`},
		{"TOP 1 2 3", `"TOP" [] false`},
		{"LIST\t1", `"LIST\t1" [] true`},
		{" QUIT", `"" ["QUIT"] true`},
		{"", `"" [] true`},
		{"   ", `"" [] true`},
		{"RETR 1\x00", `"RETR" ["1\x00"] true`},
		{"\u017ftat", `"\u017fTAT" [] true`},
		{"averyverylongkeyword x", `"AVERYVERYLONGKEYWORD" ["x"] true`},
	} {
		c := pop3wire.ParseCommand([]byte(tt.line))
		var dst [2][]byte
		args, ok := c.Args(dst[:])
		if got := fmt.Sprintf("%+q %q %v", c.Verb, args, ok); got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.line, got, tt.want)
		}
	}
}

func TestAPasswordIsTheRestOfTheLine(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"PASS secret", `"secret"`},
		{"pass secret", `"secret"`},
		{"PASS two words", `"two words"`},
		{"PASS  leads", `" leads"`},
		{"PASS trails  ", `"trails  "`},
		{"PASS ", `""`},
		{"PASS  ", `" "`},
		{"PASS", `""`},
	} {
		c := pop3wire.ParseCommand([]byte(tt.line))
		if got := fmt.Sprintf("%q", c.Rest); c.Verb != "PASS" || got != tt.want {
			t.Errorf("%q: %s with %s, want %s", tt.line, c.Verb, got, tt.want)
		}
	}
	if c := pop3wire.ParseCommand([]byte("PASS")); c.Rest != nil {
		t.Error("PASS without a space has a password")
	}
	if c := pop3wire.ParseCommand([]byte("PASS ")); c.Rest == nil {
		t.Error("PASS and a space has no password, not even an empty one")
	}
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		arg    string
		count  int // -1: refused
		number int
	}{
		{"1", 1, 1}, {"0", 0, -1}, {"10", 10, 10}, {"01", 1, 1}, {"0000000000000000001", 1, 1}, {"00", 0, -1},
		{"2147483647", 2147483647, 2147483647}, {"2147483648", -1, -1}, {"4294967297", -1, -1},
		{"18446744073709551617", -1, -1}, {"99999999999999999999", -1, -1}, {"99999999", 99999999, 99999999},
		{"", -1, -1}, {"-1", -1, -1}, {"+1", -1, -1}, {"0x1", -1, -1}, {"1e3", -1, -1}, {"1.0", -1, -1}, {"1 ", -1, -1}, {" 1", -1, -1},
		{"1\x00", -1, -1}, {"\uff11", -1, -1}, {"\u0661", -1, -1}, {"1_000", -1, -1}, {"a", -1, -1}, {"1:2", -1, -1}, {"*", -1, -1},
	} {
		n, ok := pop3wire.ParseCount([]byte(tt.arg))
		if ok != (tt.count >= 0) || ok && n != tt.count {
			t.Errorf("ParseCount(%q) = %d, %v, want %d", tt.arg, n, ok, tt.count)
		}
		n, ok = pop3wire.ParseNumber([]byte(tt.arg))
		if ok != (tt.number >= 0) || ok && n != tt.number {
			t.Errorf("ParseNumber(%q) = %d, %v, want %d", tt.arg, n, ok, tt.number)
		}
	}
}

func TestReplies(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{string(pop3wire.AppendOK(nil, "")), "+OK\r\n"},
		{string(pop3wire.AppendOK(nil, "2 320")), "+OK 2 320\r\n"},
		{string(pop3wire.AppendErr(nil, pop3wire.NoCode, "no such message")), "-ERR no such message\r\n"},
		{string(pop3wire.AppendErr(nil, pop3wire.SysTemp, "later")), "-ERR [SYS/TEMP] later\r\n"},
		{string(pop3wire.AppendErr([]byte("x"), pop3wire.Auth, "")), "x-ERR [AUTH]\r\n"},
		{string(pop3wire.AppendScan(nil, 3, 1<<40)), "3 1099511627776\r\n"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
