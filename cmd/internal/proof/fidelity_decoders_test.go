package proof_test

import (
	"bufio"
	"errors"
	"io"
	"net/textproto"
	"strings"
)

// A fidelityDecoder reads the text of one multi-line response, up to and with
// its terminator, in the way of some client.
type fidelityDecoder struct {
	name string
	read func(r *bufio.Reader) (string, error)
	lf   bool // it gives line ends as LF
}

// want is what the decoder should make of a text.
func (d fidelityDecoder) want(text string) string {
	if d.lf {
		return strings.ReplaceAll(text, "\r\n", "\n")
	}
	return text
}

// fidelityDecoders are clients of different kinds. They share no code.
var fidelityDecoders = []fidelityDecoder{
	{"strict_lines", fidelityStrict, false},
	{"lf_tolerant_lines", fidelityTolerant, true},
	{"textproto_DotReader", fidelityDotReader, true},
	{"octet_machine", fidelityMachine, false},
	{"octets_lf_dot_cr", fidelityLFDotCR, false},
	{"suffix_of_what_came", fidelitySuffix, false},
}

// fidelityStrict ends a line at CRLF alone (RFC 1939 section 3).
func fidelityStrict(r *bufio.Reader) (string, error) {
	var text strings.Builder
	for {
		var line []byte
		for !strings.HasSuffix(string(line[max(0, len(line)-2):]), "\r\n") {
			part, err := r.ReadBytes('\n')
			line = append(line, part...)
			if err != nil {
				return "", err
			}
		}
		if string(line) == ".\r\n" {
			return text.String(), nil
		}
		if line[0] == '.' {
			line = line[1:]
		}
		text.Write(line)
	}
}

// fidelityTolerant ends a line at LF and takes off whatever CR is around it, as
// Python's poplib does.
func fidelityTolerant(r *bufio.Reader) (string, error) {
	var text strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		switch {
		case strings.HasSuffix(line, "\r\n"):
			line = line[:len(line)-2]
		case line[0] == '\r':
			line = line[1 : len(line)-1]
		default:
			line = line[:len(line)-1]
		}
		if line == "." {
			return text.String(), nil
		}
		if strings.HasPrefix(line, "..") {
			line = line[1:]
		}
		text.WriteString(line + "\n")
	}
}

func fidelityDotReader(r *bufio.Reader) (string, error) {
	b, err := io.ReadAll(textproto.NewReader(r).DotReader())
	return string(b), err
}

// fidelityMachine follows CR LF . CR LF octet by octet and never looks at lines.
func fidelityMachine(r *bufio.Reader) (string, error) {
	const end = "\r\n.\r\n"
	var text strings.Builder
	seen := 2 // of end: a response begins behind a line end
	for {
		b, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		switch {
		case b == end[seen]:
			if seen++; seen == len(end) {
				return text.String(), nil
			}
			if seen == 3 {
				continue // the dot: of the terminator, or of the transport
			}
			if seen == 4 {
				continue // the CR behind it
			}
			text.WriteByte(b)
		case seen == 3: // a line that began with a dot
			text.WriteByte(b)
			seen = 0
			if b == '\r' {
				seen = 1
			}
		case seen == 4: // "." CR and no LF: both were text
			text.WriteString("\r")
			text.WriteByte(b)
			seen = 0
			if b == '\r' {
				seen = 1
			}
		default:
			text.WriteByte(b)
			seen = 0
			if b == '\r' {
				seen = 1
			}
		}
	}
}

// fidelityLFDotCR takes LF, a dot and CR for the end, whatever is before the LF
// and behind the CR, as some Java libraries do.
func fidelityLFDotCR(r *bufio.Reader) (string, error) {
	var text strings.Builder
	for last := byte('\n'); ; {
		b, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		if last == '\n' && b == '.' {
			if b, err = r.ReadByte(); err != nil {
				return "", err
			}
			if b == '\r' {
				_, err = r.ReadByte()
				return text.String(), err
			}
		}
		text.WriteByte(b)
		last = b
	}
}

// fidelitySuffix looks at the end of all that it holds after every line, as
// scripts do, and undoes the dots afterwards.
func fidelitySuffix(r *bufio.Reader) (string, error) {
	var all []byte
	for {
		part, err := r.ReadBytes('\n')
		if err != nil {
			return "", err
		}
		all = append(all, part...)
		tail := string(all[max(0, len(all)-5):])
		if len(all) == 3 && tail == ".\r\n" || tail == "\r\n.\r\n" {
			break
		}
	}
	text := "\r\n" + string(all[:len(all)-3])
	return strings.ReplaceAll(text, "\r\n.", "\r\n")[2:], nil
}

// fidelityStatus reads the status line of a reply.
func fidelityStatus(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(line, "\r\n") || !strings.HasPrefix(line, "+OK") {
		return "", errors.New("no positive reply where one must be: " + line)
	}
	return strings.TrimSuffix(line, "\r\n"), nil
}
