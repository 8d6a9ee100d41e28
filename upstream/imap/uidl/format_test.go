package uidl_test

import (
	"math"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/imap/uidl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestForms(t *testing.T) {
	for _, tt := range []struct {
		form     string
		validity uint32
		uid      uint32
		want     string
	}{
		{"%v.%u", 1234567890, 42, "1234567890.42"},         // the default, and that of Cyrus
		{"%08Xu%08Xv", 1234567890, 42, "0000002a499602d2"}, // Dovecot's, and Cyrus' of that name
		{"%08Xv%08Xu", math.MaxUint32, math.MaxUint32, "ffffffffffffffff"},
		{"%v-%u", 7, 1, "7-1"},
		{"UID%u-%v", 7, 1, "UID1-7"},
		{"<%Xu.%010v@x>", 255, 255, "<ff.0000000255@x>"},
		{"%u%08Xv", 1, 10, "1000000001"}, // the second has one length
	} {
		f, err := uidl.Parse(tt.form)
		if err != nil {
			t.Errorf("%s: %v", tt.form, err)
			continue
		}
		if got := string(f.Append([]byte("7 "), tt.validity, tt.uid)); got != "7 "+tt.want {
			t.Errorf("%s: %q, want %q", tt.form, got, tt.want)
		}
		if f.String() != tt.form {
			t.Errorf("%s says that it is %s", tt.form, f)
		}
	}
}

func TestTheZeroFormatIsTheDefault(t *testing.T) {
	var zero uidl.Format
	if parsed, err := uidl.Parse(uidl.Default); err != nil || parsed != zero || zero.String() != uidl.Default {
		t.Errorf("%s, %v; the zero format says that it is %s", parsed, err, zero)
	}
}

func TestAFormThatPromisesTooLittleIsRefused(t *testing.T) {
	for form, want := range map[string]string{
		"":                                "no number",
		"id":                              "no number",
		"%u":                              "needs %v and %u",
		"%08Xu%08Xu":                      "needs %v and %u",
		"%u.%v.%u":                        "needs %v and %u",
		"%v.%u.%f":                        "behind a %",
		"%v.%u%%":                         "behind a %",
		"%8Xu.%v":                         "behind a %",
		"%u%v":                            "cannot be told",
		"%u0%v":                           "cannot be told",
		"%Xua%v":                          "8 digits",
		"%07Xu%07Xv":                      "cannot be told",
		"%v %u":                           "no spaces",
		"%v.%u\n":                         "no spaces",
		"%vé%u":                           "beyond ASCII",
		strings.Repeat("x", 51) + "%v.%u": "72 characters",
		"%099u.%v":                        "shorten",
	} {
		if f, err := uidl.Parse(form); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want an error with %q", form, f, err, want)
		}
	}
}

// Whatever form is taken: two messages have two unique-ids, and both are legal.
func FuzzTwoMessagesHaveTwoUniqueIDs(f *testing.F) {
	for _, form := range []string{"%v.%u", "%08Xu%08Xv", "%u%v", "%Xu.%Xv", "%u%08Xv", "%07Xu%v", "a%010vb%uc"} {
		f.Add(form, uint32(1), uint32(11), uint32(11), uint32(1))
		f.Add(form, uint32(math.MaxUint32), uint32(0), uint32(16), uint32(161))
	}
	f.Fuzz(func(t *testing.T, form string, v1, u1, v2, u2 uint32) {
		format, err := uidl.Parse(form)
		if err != nil {
			return
		}
		a, b := format.Append(nil, v1, u1), format.Append(nil, v2, u2)
		if (string(a) == string(b)) != (v1 == v2 && u1 == u2) {
			t.Errorf("%s: %d %d is %q, %d %d is %q", form, v1, u1, a, v2, u2, b)
		}
		if !upstream.ValidUIDL(a) || !upstream.ValidUIDL(b) {
			t.Errorf("%s: %q or %q is no unique-id", form, a, b)
		}
	})
}
