package pop3wire

import "strconv"

// A Code is an extended response code, which a program can act upon
// (RFC 2449 section 8, RFC 3206). The zero value is none.
type Code string

// The codes in use.
const (
	NoCode     Code = ""
	Auth       Code = "AUTH"        // the credentials are the cause
	SysTemp    Code = "SYS/TEMP"    // waiting may cure it
	SysPerm    Code = "SYS/PERM"    // a person has to
	InUse      Code = "IN-USE"      // another session holds the maildrop
	LoginDelay Code = "LOGIN-DELAY" // too soon after the last login
)

// terminator ends a multi-line response (RFC 1939 section 3).
const terminator = ".\r\n"

// AppendOK appends a positive reply. text is one line of printable ASCII, or
// empty.
func AppendOK(dst []byte, text string) []byte {
	return appendReply(dst, "+OK", NoCode, text)
}

// AppendErr appends a negative reply.
func AppendErr(dst []byte, code Code, text string) []byte {
	return appendReply(dst, "-ERR", code, text)
}

func appendReply(dst []byte, status string, code Code, text string) []byte {
	dst = append(dst, status...)
	if code != NoCode {
		dst = append(dst, " ["...)
		dst = append(dst, code...)
		dst = append(dst, ']')
	}
	if text != "" {
		dst = append(dst, ' ')
		dst = append(dst, text...)
	}
	return append(dst, "\r\n"...)
}

// AppendScan appends the scan listing of message number n (RFC 1939 section 5,
// LIST) with its line end.
func AppendScan(dst []byte, n int, octets int64) []byte {
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, octets, 10)
	return append(dst, "\r\n"...)
}
