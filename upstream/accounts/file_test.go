package accounts_test

import (
	"os"
	"strings"
	"testing"

	"github.com/popgate/popgate/upstream/accounts"
)

// The hashes are what others make: the example of the reference implementation of
// Argon2, and the first of those of crypt_blowfish.
func TestHashes(t *testing.T) {
	const (
		argon  = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
		bcrypt = "$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
	)
	for _, tt := range []struct {
		name, hash, password string
		want                 bool
	}{
		{"argon2id", argon, "password", true},
		{"argon2id_wrong", argon, "passwore", false},
		{"bcrypt_2a", "$2a" + bcrypt, "U*U", true},
		{"bcrypt_2b", "$2b" + bcrypt, "U*U", true},
		{"bcrypt_2y", "$2y" + bcrypt, "U*U", true},
		{"bcrypt_wrong", "$2a" + bcrypt, "U*U*", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := accounts.Accepts(tt.hash, tt.password); err != nil || got != tt.want {
				t.Errorf("Accepts(%q, %q) = %v, %v; want %v", tt.hash, tt.password, got, err, tt.want)
			}
		})
	}
}

func TestBadHashes(t *testing.T) {
	const tail = "$c29tZXNhbHQ$7s0CIRuOXGLR2bXYUG9GRg"
	for name, hash := range map[string]string{
		"clear_text":            "tanstaaf",
		"argon2i":               "$argon2i$v=19$m=8,t=1,p=1" + tail,
		"old_version":           "$argon2id$v=16$m=8,t=1,p=1" + tail,
		"no_version":            "$argon2id$m=8,t=1,p=1" + tail,
		"too_much_memory":       "$argon2id$v=19$m=65537,t=1,p=1" + tail,
		"memory_of_32_bits":     "$argon2id$v=19$m=4294967295,t=1,p=1" + tail,
		"more_than_32_bits":     "$argon2id$v=19$m=4294967304,t=1,p=1" + tail,
		"too_little_memory":     "$argon2id$v=19$m=7,t=1,p=1" + tail,
		"too_many_passes":       "$argon2id$v=19$m=8,t=17,p=1" + tail,
		"no_pass":               "$argon2id$v=19$m=8,t=0,p=1" + tail,
		"no_thread":             "$argon2id$v=19$m=8,t=1,p=0" + tail,
		"too_many_threads":      "$argon2id$v=19$m=65536,t=1,p=17" + tail,
		"a_sign":                "$argon2id$v=19$m=+8,t=1,p=1" + tail,
		"more_parameters":       "$argon2id$v=19$m=8,t=1,p=1,keyid=x" + tail,
		"short_salt":            "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$7s0CIRuOXGLR2bXYUG9GRg",
		"short_key":             "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$7s0C",
		"long_key":              "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + strings.Repeat("AAAA", 22),
		"no_base64":             "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$!!!!!!!!!!!!!!!!!!!!!!",
		"more_fields":           "$argon2id$v=19$m=8,t=1,p=1" + tail + "$",
		"bcrypt_of_the_bad_day": "$2x$04$abcdefghijklmnopqrstuuVE2lLM4QXcA6L2qE1ZSTzcyVLkNcgN2",
		"bcrypt_too_dear":       "$2y$15$abcdefghijklmnopqrstuuVE2lLM4QXcA6L2qE1ZSTzcyVLkNcgN2",
		"bcrypt_too_cheap":      "$2y$03$abcdefghijklmnopqrstuuVE2lLM4QXcA6L2qE1ZSTzcyVLkNcgN2",
		"bcrypt_short":          "$2y$04$abcdefghijklmnopqrstuu",
		"bcrypt_alphabet":       "$2y$04$abcdefghijklmnopqrstuuVE2lLM4QXcA6L2qE1ZSTzcyVLkNcg+2",
		"dovecot_s_scheme":      "{BLF-CRYPT}$2y$04$abcdefghijklmnopqrstuuVE2lLM4QXcA6L2qE1ZSTzcyVLkNcgN2",
		"crypt":                 "$6$rounds=5000$salt$hash",
	} {
		t.Run(name, func(t *testing.T) {
			err := accounts.Refuses(hash)
			if err == nil {
				t.Fatalf("%q is taken", hash)
			}
			if strings.Contains(err.Error(), hash) {
				t.Errorf("the error repeats what may be a password: %v", err)
			}
		})
	}
}

// canary is what no message may hold.
const canary = "Tanstaaf"

func TestProblemsSayLineAndCureAndNoSecret(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"no_colon", canary, "there is no colon behind the user; a line is user:hash, and attributes behind further colons"},
		{"no_user", ":" + cheapBcrypt, "the user is no name: 1 to 255 octets, without control characters"},
		{"a_control_character_in_the_user", "a%0Ab:" + cheapBcrypt, "the user is no name: 1 to 255 octets, without control characters"},
		{"a_password_for_a_hash", "a:" + canary, "the hash is not one: use `popgate passwd`, or argon2id ($argon2id$v=19$...) or bcrypt ($2b$...)"},
		{"nothing_to_prove_by", "a:", "nobody could log in: the account needs a hash, a shared-secret or external"},
		{"only_an_upstream_password", "a::upstream-password=" + canary, "nobody could log in: the account needs a hash, a shared-secret or external"},
		{"an_unknown_attribute", "a::shared-secret=x:" + canary + "=y",
			"attribute 2 is none of shared-secret, external, upstream-user, upstream-password, mailbox; a colon within a value is written %3A"},
		{"a_colon_in_a_password", "a::shared-secret=x:" + canary,
			"attribute 2 is none of shared-secret, external, upstream-user, upstream-password, mailbox; a colon within a value is written %3A"},
		{"twice", "a::shared-secret=x:shared-secret=" + canary, "shared-secret is given twice"},
		{"external_twice", "a::external:external", "external is given twice"},
		{"external_with_a_value", "a::external=" + canary, "external has no value; write it alone"},
		{"an_empty_value", "a::shared-secret=", "shared-secret has a value of 1 to 1024 octets"},
		{"a_long_value", "a::shared-secret=" + strings.Repeat(canary, 200), "shared-secret has a value of 1 to 1024 octets"},
		{"a_percent_sign", "a::shared-secret=100%", "shared-secret: a percent sign stands before two hexadecimal digits; for itself it is written %25"},
		{"a_sign_behind_a_percent_sign", "a::shared-secret=%+1", "shared-secret: a percent sign stands before two hexadecimal digits; for itself it is written %25"},
		{"a_line_end_in_a_secret", "a::upstream-password=" + canary + "%0Ax:external", "upstream-password has a character that cannot be sent to a mail service"},
		{"a_control_character_in_a_mailbox", "a::external:mailbox=%09", "mailbox has a character that cannot be sent to a mail service"},
		{"a_control_character", "a\x01::external", "the line has control characters; write them as %09 and so on"},
		{"no_UTF_8", "a\xff::external", "the line is not UTF-8"},
		{"a_long_line", "a::external:mailbox=" + strings.Repeat("x", 4096), "the line has more than 4096 octets"},
		{"the_same_account", "SOMEBODY::external", "the account is there already, on line 2; take one of the two out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, "# accounts\nsomebody::external\n\n"+tt.line+"\n")
			_, err := accounts.Open(accounts.Options{File: file})
			if want := file + ":4: " + tt.want; err == nil || err.Error() != want {
				t.Fatalf("Open() of %q:\ngot  %v\nwant %s", tt.line, err, want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("a secret in %v", err)
			}
		})
	}
}

func TestFilesThatAreNone(t *testing.T) {
	missing := write(t, "") + "x"
	large := write(t, strings.Repeat("#\n", 8<<20+1))
	many := write(t, strings.Repeat("x\n", 1000))
	for _, tt := range []struct{ name, file, want string }{
		{"not_there", missing, missing + " is not there; make it with `popgate passwd --file " + missing + " USER`"},
		{"too_large", large, large + " is larger than 16777216 octets"},
		{"many_problems", many, many + ": and 980 more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := accounts.Open(accounts.Options{File: tt.file}); err == nil || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("Open() = %v, want %s", err, tt.want)
			}
		})
	}
	if os.Getuid() != 0 {
		file := write(t, everything)
		if err := os.Chmod(file, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := accounts.Open(accounts.Options{File: file}); err == nil || !strings.Contains(err.Error(), "must be allowed to") {
			t.Errorf("Open() of a file of others = %v", err)
		}
	}
}

// FuzzLine: a line that is accepted means the same when it is written anew, and no
// line makes a fault.
func FuzzLine(f *testing.F) {
	for line := range strings.Lines(everything) {
		f.Add(strings.TrimSuffix(line, "\n"))
	}
	for _, line := range []string{"%23a::external", "%20 a::shared-secret=%FF%25%3a", "a:" + cheapArgon + ":mailbox=:", "a::external:", "#", " ", "\xff::external", "a%FF::external"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		once, err := accounts.Rewritten(line)
		if err != nil || once == "" {
			return
		}
		twice, err := accounts.Rewritten(once)
		if err != nil || twice != once {
			t.Fatalf("%q became %q, and that %q, %v", line, once, twice, err)
		}
	})
}
