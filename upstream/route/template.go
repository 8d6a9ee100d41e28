package route

import (
	"fmt"
	"slices"
	"strings"
)

// The fields that every template can use, beside the named groups of the route's
// pattern.
const (
	fieldUser   = "user"   // as the client sent it, without a folder
	fieldLocal  = "local"  // of it, what is before the last "@"
	fieldDomain = "domain" // and what is behind; "" for none
	fieldFolder = "folder" // "" for none
)

// Fields lists the fields that every template can use.
func Fields() []string { return []string{fieldUser, fieldLocal, fieldDomain, fieldFolder} }

// A Template is a text with fields in braces, "{local}@example.net". What is put
// in for a field is not read as a template again. The zero value is empty.
type Template struct {
	text  []string // before each field, and behind the last
	field []string
}

// ParseTemplate reads a template. Whether its fields are known is for [NewTable]
// to say.
func ParseTemplate(s string) (Template, error) {
	var t Template
	for {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			t.text = append(t.text, s)
			return t, nil
		}
		end := strings.IndexAny(s[i+1:], "{}")
		if s[i] == '}' || end < 1 || s[i+1+end] != '}' {
			return Template{}, fmt.Errorf("a brace that belongs to no field")
		}
		t.text = append(t.text, s[:i])
		t.field = append(t.field, s[i+1:i+1+end])
		s = s[i+1+end+1:]
	}
}

// Empty reports whether t is the zero value, or what an empty text gives.
func (t Template) Empty() bool {
	return len(t.field) == 0 && (len(t.text) == 0 || t.text[0] == "")
}

func (t Template) names(field string) bool { return slices.Contains(t.field, field) }

// check demands that every field is known.
func (t Template) check(known []string) error {
	for _, f := range t.field {
		if !slices.Contains(known, f) {
			return fmt.Errorf("a template names {%s}, and there are %s", f, "{"+strings.Join(known, "}, {")+"}")
		}
	}
	return nil
}

// fill puts the values in.
func (t Template) fill(values map[string]string) string {
	var b strings.Builder
	for i, text := range t.text {
		b.WriteString(text)
		if i < len(t.field) {
			b.WriteString(values[t.field[i]])
		}
	}
	return b.String()
}

// fields lists what templates of the route can use.
func (r *rule) fields() []string {
	out := Fields()
	if r.pattern != nil {
		for _, name := range r.pattern.SubexpNames() {
			if name != "" && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// values are those of the fields. A group of the pattern does not replace a field
// of ours.
func (r *rule) values(w way) map[string]string {
	v := map[string]string{}
	if r.pattern != nil {
		for i, name := range r.pattern.SubexpNames() {
			v[name] = w.groups[i]
		}
	}
	v[fieldUser], v[fieldFolder] = w.user, w.folder
	v[fieldLocal], v[fieldDomain] = cutDomain(w.user)
	return v
}
