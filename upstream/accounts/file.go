package accounts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxFile     = 16 << 20 // octets
	maxLine     = 4 << 10
	maxName     = 255
	maxSecret   = 1 << 10
	maxProblems = 20 // that are told of one file
)

// An account is a line of the file.
type account struct {
	name     string
	hash     hash // nil: none
	hashText string

	shared           string
	external         bool
	upstreamUser     string
	upstreamPassword string
	mailbox          string
}

// An attribute is what can stand behind the hash.
type attribute struct {
	name   string
	secret bool
	most   int                     // octets; 0: it has no value
	text   func(a *account) string // "" where it is not there
	set    func(a *account, value string)
}

func attributes() []attribute {
	field := func(name string, secret bool, most int, of func(*account) *string) attribute {
		return attribute{name, secret, most, func(a *account) string { return *of(a) }, func(a *account, v string) { *of(a) = v }}
	}
	return []attribute{
		field("shared-secret", true, maxSecret, func(a *account) *string { return &a.shared }),
		{"external", false, 0, func(a *account) string {
			if a.external {
				return "external"
			}
			return ""
		}, func(a *account, _ string) { a.external = true }},
		field("upstream-user", false, maxName, func(a *account) *string { return &a.upstreamUser }),
		field("upstream-password", true, maxSecret, func(a *account) *string { return &a.upstreamPassword }),
		field("mailbox", false, maxName, func(a *account) *string { return &a.mailbox }),
	}
}

// load reads the accounts of a file.
func load(file string) (*table, error) {
	data, mode, err := read(file)
	if err != nil {
		return nil, err
	}
	t, problems := parse(data)
	if len(problems) == 0 {
		t.mode = mode
		return t, nil
	}
	var text strings.Builder
	for i, p := range problems {
		if i == maxProblems {
			fmt.Fprintf(&text, "\n%s: and %d more", file, len(problems)-i)
			break
		}
		if i > 0 {
			text.WriteByte('\n')
		}
		fmt.Fprintf(&text, "%s:%d: %v", file, p.line, p.err)
	}
	return nil, errors.New(text.String())
}

func read(file string) (data []byte, mode uint32, err error) {
	f, err := os.Open(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, fmt.Errorf("%s is not there; make it with `popgate passwd --file %s USER`", file, file)
	case errors.Is(err, fs.ErrPermission):
		return nil, 0, fmt.Errorf("%s cannot be read; the user that runs popgate must be allowed to", file)
	case err != nil:
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, err
	}
	if len(data) > maxFile {
		return nil, 0, fmt.Errorf("%s is larger than %d octets", file, maxFile)
	}
	return data, uint32(info.Mode().Perm()), nil
}

// A problem is what is wrong with a line; err repeats nothing of it but names.
type problem struct {
	line int
	err  error
}

// parse reads the octets of a file.
func parse(data []byte) (*table, []problem) {
	t := &table{accounts: map[string]*account{}}
	var problems []problem
	lines := map[string]int{} // by folded name
	n := 0
	for line := range bytes.Lines(data) {
		n++
		a, err := parseLine(bytes.TrimRight(line, "\r\n"))
		if err != nil {
			problems = append(problems, problem{n, err})
			continue
		}
		if a == nil {
			continue
		}
		key := fold(a.name)
		if first, ok := lines[key]; ok {
			problems = append(problems, problem{n, fmt.Errorf("the account is there already, on line %d; take one of the two out", first)})
			continue
		}
		lines[key] = n
		t.accounts[key] = a
		t.secrets = t.secrets || a.shared != "" || a.upstreamPassword != ""
		if a.hash != nil {
			t.hashes = append(t.hashes, a.hash)
		}
	}
	if t.hashes == nil {
		t.hashes = []hash{newArgon2id()}
	}
	return t, problems
}

// parseLine reads a line; nil where no account is in it.
func parseLine(line []byte) (*account, error) {
	text := string(line)
	switch {
	case strings.Trim(text, " \t") == "" || text[0] == '#':
		return nil, nil
	case len(line) > maxLine:
		return nil, fmt.Errorf("the line has more than %d octets", maxLine)
	case !utf8.ValidString(text):
		return nil, errors.New("the line is not UTF-8")
	case strings.ContainsFunc(text, control):
		return nil, errors.New("the line has control characters; write them as %09 and so on")
	}
	fields := strings.Split(text, ":")
	if len(fields) < 2 {
		return nil, errors.New("there is no colon behind the user; a line is user:hash, and attributes behind further colons")
	}
	a := &account{hashText: fields[1]}
	var err error
	if a.name, err = unescape(fields[0]); err != nil || a.name == "" || len(a.name) > maxName || strings.ContainsFunc(a.name, control) {
		return nil, fmt.Errorf("the user is no name: 1 to %d octets, without control characters", maxName)
	}
	if a.hash, err = parseHash(a.hashText); err != nil {
		return nil, err
	}
	for i, f := range fields[2:] {
		if err := a.attribute(i+1, f); err != nil {
			return nil, err
		}
	}
	if a.hash == nil && a.shared == "" && !a.external {
		return nil, errors.New("nobody could log in: the account needs a hash, a shared-secret or external")
	}
	return a, nil
}

// attribute reads the nth attribute. What is no known name is not repeated: it may
// be the rest of a password with a colon in it.
func (a *account) attribute(n int, field string) error {
	name, value, given := strings.Cut(field, "=")
	known := []string{}
	for _, at := range attributes() {
		known = append(known, at.name)
		if at.name != name {
			continue
		}
		if at.text(a) != "" {
			return fmt.Errorf("%s is given twice", name)
		}
		if at.most == 0 {
			if given {
				return fmt.Errorf("%s has no value; write it alone", name)
			}
			at.set(a, "")
			return nil
		}
		value, err := unescape(value)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case value == "" || len(value) > at.most:
			return fmt.Errorf("%s has a value of 1 to %d octets", name, at.most)
		case at.secret && strings.ContainsAny(value, "\x00\r\n"), !at.secret && strings.ContainsFunc(value, control):
			return fmt.Errorf("%s has a character that cannot be sent to a mail service", name)
		}
		at.set(a, value)
		return nil
	}
	return fmt.Errorf("attribute %d is none of %s; a colon within a value is written %%3A", n, strings.Join(known, ", "))
}

// line is the line of the account.
func (a *account) line() string {
	fields := []string{escape(a.name), a.hashText}
	for _, at := range attributes() {
		switch value := at.text(a); {
		case value == "":
		case at.most == 0:
			fields = append(fields, at.name)
		default:
			fields = append(fields, at.name+"="+escape(value))
		}
	}
	return strings.Join(fields, ":")
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// escape writes what has a meaning in a line, or cannot be seen, as %XX.
func escape(s string) string {
	var b strings.Builder
	valid := utf8.ValidString(s)
	for i, c := range []byte(s) {
		if c < ' ' || c == 0x7f || c == ':' || c == '%' || c >= 0x80 && !valid || (c == '#' || c == ' ') && i == 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for {
		head, rest, found := strings.Cut(s, "%")
		b.WriteString(head)
		if !found {
			return b.String(), nil
		}
		c, err := strconv.ParseUint(rest[:min(2, len(rest))], 16, 8)
		if err != nil || len(rest) < 2 {
			return "", errors.New("a percent sign stands before two hexadecimal digits; for itself it is written %25")
		}
		b.WriteByte(byte(c))
		s = rest[2:]
	}
}
