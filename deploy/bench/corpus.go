package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// A corpus is a mailbox whose messages are known in advance.
type corpus struct {
	name     string
	messages [][]byte // with CRLF line ends
	header   [][]byte // of each: what TOP n 0 gives
	octets   int64
}

// newCorpus makes n messages of the sizes that size says. The first line of each
// tells its place.
func newCorpus(name string, n int, size func(r *rand.Rand) int) *corpus {
	c := &corpus{name: name}
	r := rand.New(rand.NewPCG(1725, uint64(n)))
	for i := range n {
		c.add(i, size(r), r)
	}
	return c
}

func (c *corpus) add(i, size int, r *rand.Rand) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Subject: %s %d\r\nFrom: Bench <bench@example.test>\r\nTo: reader@example.test\r\n"+
		"Date: Mon, 15 Jun 2026 10:%02d:%02d +0000\r\nMessage-ID: <%s.%d@example.test>\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: text/plain; charset=us-ascii\r\n\r\n", c.name, i, i/60%60, i%60, c.name, i)
	head := b.Len()
	const alphabet = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789"
	line := make([]byte, 0, 80)
	for b.Len() < size {
		line = line[:0]
		if r.IntN(40) == 0 {
			line = append(line, "."[:r.IntN(2)]...) // some lines begin with a dot, some are empty
		} else {
			for x, k := r.Uint64(), min(r.IntN(76), max(size-b.Len()-2, 0)); len(line) < k; x = x>>6 | x<<58 {
				line = append(line, alphabet[x%uint64(len(alphabet))])
			}
		}
		b.Write(append(line, "\r\n"...))
	}
	c.messages = append(c.messages, b.Bytes())
	c.header = append(c.header, b.Bytes()[:head])
	c.octets += int64(b.Len())
}

// place reads the place of a message from its first line.
func (c *corpus) place(firstLine []byte) (int, error) {
	rest, ok := bytes.CutPrefix(firstLine, []byte("Subject: "+c.name+" "))
	if !ok {
		return 0, fmt.Errorf("a message that is none of %s begins with %.60q", c.name, firstLine)
	}
	i, err := strconv.Atoi(string(bytes.TrimSpace(rest)))
	if err != nil || i < 0 || i >= len(c.messages) {
		return 0, fmt.Errorf("%s has no message %q", c.name, rest)
	}
	return i, nil
}

func sized(n int) func(*rand.Rand) int { return func(*rand.Rand) int { return n } }

// mixed is what mail is like: many small ones, some large ones; 12 kB in the
// middle.
func mixed(r *rand.Rand) int {
	return int(min(max(500, 5000*math.Exp(1.2*r.NormFloat64())), 2<<20))
}

// store writes the messages to files, once, from where mailboxes link them.
func (c *corpus) store(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, c.name), 0o755); err != nil {
		return err
	}
	for i, m := range c.messages {
		if err := os.WriteFile(c.file(dir, i), m, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (c *corpus) file(dir string, i int) string {
	return filepath.Join(dir, c.name, strconv.Itoa(i))
}

// maildir makes the maildir of a user, with n messages of the corpus, which repeat
// where there are fewer. They are hard links.
func (c *corpus) maildir(store, home string, n, uid int) error {
	root := filepath.Join(home, "Maildir")
	for _, d := range []string{home, root, filepath.Join(root, "tmp"), filepath.Join(root, "new"), filepath.Join(root, "cur")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := os.Chown(d, uid, uid); err != nil {
			return err
		}
	}
	for i := range n {
		k := i % len(c.messages)
		name := fmt.Sprintf("%d.M%06dP1.bench,S=%d,W=%d:2,", 1_750_000_000+i, i%1_000_000, len(c.messages[k]), len(c.messages[k]))
		if err := os.Link(c.file(store, k), filepath.Join(root, "cur", name)); err != nil {
			return err
		}
	}
	return nil
}
