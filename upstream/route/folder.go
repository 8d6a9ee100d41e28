package route

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Folders says whether clients may ask for another mailbox than the usual one, and
// how. What a separator has nothing before or nothing behind is a user as any
// other. The domain may stand before or behind the folder: alice+Work@example.net
// and alice@example.net+Work are the same. Where both separators would do, the
// route says which.
type Folders uint8

const (
	NoFolders    Folders = iota // the user is all that a client sends
	PlusFolders                 // user+Folder
	SlashFolders                // user/Folder, user/Folder/Folder below it
)

// MaxFolder is the greatest length of a folder in octets.
const MaxFolder = 1024

// misfitFolder is a folder that no route lets through.
const misfitFolder Misfit = "folder"

func (f Folders) separator() byte {
	if f == SlashFolders {
		return '/'
	}
	return '+'
}

// split takes the folder from what a client sent as user.
func (f Folders) split(sent string) (user, folder string, misfit Misfit) {
	if f == NoFolders {
		return sent, "", ""
	}
	i := strings.IndexByte(sent, f.separator())
	if i < 1 || i == len(sent)-1 {
		return sent, "", ""
	}
	user, folder = sent[:i], sent[i+1:]
	if at := strings.LastIndexByte(folder, '@'); at >= 0 && !strings.Contains(user, "@") {
		user, folder = user+folder[at:], folder[:at]
	}
	switch {
	case folder == "":
		return sent, "", ""
	case !legalFolder(folder):
		return user, "", misfitFolder
	}
	return user, folder, ""
}

// legalFolder demands a name that any server takes as the name of one mailbox: no
// pattern of LIST, no part of a path that leads upwards or to another place, and
// none of the forms in which some servers open files or other hosts.
func legalFolder(name string) bool {
	switch {
	case len(name) > MaxFolder || !utf8.ValidString(name):
		return false
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune("*%{}\\", r) }):
		return false
	case strings.ContainsRune("/~#.", rune(name[0])):
		return false
	}
	return !slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return part == "" || part == "." || part == ".." })
}
