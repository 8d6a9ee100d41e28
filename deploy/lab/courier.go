package lab

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	courierEtc    = "/etc/courier" // compiled into authdaemond
	courierSocket = "/run/courier/authdaemon/socket"
	savedSuffix   = ".popgate-saved"
	lockTimeout   = 5 * time.Minute // a whole run over Courier takes under two
)

// CourierConnections is how many connections the lab's Courier takes from one
// address before it hangs up without a greeting.
const CourierConnections = 20

// courierFiles are the files of /etc/courier that a lab replaces.
var courierFiles = [...]string{"authdaemonrc", "userdb", "userdb.dat", "userdbshadow.dat", "userdb.lock"}

// Courier starts a private Courier under the given name. unpacked is a folder
// into which the package courier-imap was unpacked: it cannot be installed
// beside Dovecot. deb is that package's file, read for its version. The rest
// comes from courier-base, courier-authlib and courier-authlib-userdb.
func (l *Lab) Courier(ctx context.Context, name, unpacked, deb string) (*Server, error) {
	s := &Server{Name: "courier"}
	err := freePorts(&s.IMAP, &s.IMAPS)
	if err != nil {
		return nil, err
	}
	if s.Version, err = output(ctx, "", "dpkg-deb", "-f", deb, "Version"); err != nil {
		return nil, err
	}
	dir, err := l.fresh(0, 0, name)
	if err != nil {
		return nil, err
	}
	if _, err := l.folder(MailUser, MailUser, name, "mail"); err != nil {
		return nil, err
	}
	users, err := l.courierUsers(name)
	if err != nil {
		return nil, err
	}
	s.LogFile = filepath.Join(dir, "log")
	if err := s.takeCourierEtc(ctx); err != nil {
		return nil, err
	}
	fail := func(err error) (*Server, error) {
		_ = s.Stop()
		return nil, fmt.Errorf("courier: %w", err)
	}
	rc := "authmodulelist=\"authuserdb\"\nauthmodulelistorig=\"authuserdb\"\ndaemons=5\nauthdaemonvar=" +
		filepath.Dir(courierSocket) + "\n"
	if err := os.WriteFile(filepath.Join(courierEtc, "authdaemonrc"), []byte(rc), 0o640); err != nil {
		return fail(err)
	}
	if err := os.WriteFile(filepath.Join(courierEtc, "userdb"), []byte(users), 0o600); err != nil {
		return fail(err)
	}
	if _, err := output(ctx, "", "/usr/sbin/makeuserdb"); err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(filepath.Dir(courierSocket), 0o755); err != nil {
		return fail(err)
	}
	auth, err := l.spawn(name+"-auth", s.LogFile, nil, "/usr/lib/courier/courier-authlib/authdaemond")
	if err != nil {
		return fail(err)
	}
	s.procs = append(s.procs, auth)

	env := append([]string{"TLS_CERTFILE=" + l.tls.combined}, courierEnv...)
	login := filepath.Join(unpacked, "usr/lib/courier/courier/imaplogin")
	imapd := filepath.Join(unpacked, "usr/bin/imapd")
	for _, listener := range []struct {
		name, addr string
		env, argv  []string
	}{
		{"imap", s.IMAP, nil, []string{login, imapd, "Maildir"}},
		{"imaps", s.IMAPS, []string{"IMAP_TLS=1"}, []string{"/usr/bin/couriertls", "-server", "-tcpd", login, imapd, "Maildir"}},
	} {
		argv := append([]string{"/usr/sbin/couriertcpd", "-address=127.0.0.1", "-maxprocs=100",
			fmt.Sprintf("-maxperip=%d", CourierConnections), "-nodnslookup", "-noidentlookup", port(listener.addr)}, listener.argv...)
		p, err := l.spawn(name+"-"+listener.name, s.LogFile, append(listener.env, env...), argv...)
		if err != nil {
			return fail(err)
		}
		s.procs = append(s.procs, p)
	}
	return s, s.await(ctx, s.IMAP, s.IMAPS)
}

// courierUsers makes every user's Maildir and returns the text of the user
// database.
func (l *Lab) courierUsers(name string) (string, error) {
	var db strings.Builder
	for n := 1; n <= Users; n++ {
		user, pass := User(n)
		home := filepath.Join(l.dir, name, "mail", fmt.Sprintf("user%d", n))
		for _, box := range []string{"", ".Trash"} {
			for _, sub := range []string{"", "cur", "new", "tmp"} {
				if _, err := l.folder(MailUser, MailUser, name, "mail", fmt.Sprintf("user%d", n), "Maildir", box, sub); err != nil {
					return "", err
				}
			}
		}
		// A Maildir below another one is a folder only with this mark.
		mark := filepath.Join(home, "Maildir", ".Trash", "maildirfolder")
		if err := os.WriteFile(mark, nil, 0o644); err != nil {
			return "", err
		}
		if err := errors.Join(os.Chown(mark, MailUser, MailUser), os.Chown(home, MailUser, MailUser)); err != nil {
			return "", err
		}
		sum := sha256.Sum256([]byte(pass))
		fmt.Fprintf(&db, "%s\tuid=%d|gid=%d|home=%s|mail=%s/Maildir|systempw={SHA256}%s\n",
			user, MailUser, MailUser, home, home, base64.StdEncoding.EncodeToString(sum[:]))
	}
	return db.String(), nil
}

// takeCourierEtc locks /etc/courier, saves the files that will be replaced and
// arranges that Stop puts them back. What a killed run left behind is put back
// first. It waits for another lab that has the lock.
func (s *Server) takeCourierEtc(ctx context.Context) error {
	lock, err := os.Open(courierEtc)
	if err != nil {
		return err
	}
	if err := lockFile(ctx, lock); err != nil {
		lock.Close()
		return fmt.Errorf("another lab uses %s: %w", courierEtc, err)
	}
	restore := func() error { return eachCourierFile(restoreFile) }
	err = restore()
	if err == nil {
		err = eachCourierFile(saveFile)
	}
	if err != nil {
		err = errors.Join(err, restore())
		lock.Close()
		return fmt.Errorf("%s: %w", courierEtc, err)
	}
	s.undo = append(s.undo, lock.Close, restore)
	return nil
}

// lockFile takes an exclusive lock, which ends with the file.
func lockFile(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func eachCourierFile(do func(file string) error) error {
	var all []error
	for _, f := range courierFiles {
		all = append(all, do(filepath.Join(courierEtc, f)))
	}
	return errors.Join(all...)
}

// saveFile moves a file aside; one that does not exist is remembered as a
// dangling symbolic link.
func saveFile(file string) error {
	err := os.Rename(file, file+savedSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Symlink("/nonexistent", file+savedSuffix)
	}
	return err
}

func restoreFile(file string) error {
	info, err := os.Lstat(file + savedSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return os.Rename(file+savedSuffix, file)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Remove(file + savedSuffix)
}

// courierEnv is what Courier's own start script would read from its
// configuration. The capabilities are Debian's default.
var courierEnv = []string{
	"AUTHMODULES=authdaemon",
	"IMAP_CAPABILITY=IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE",
	"IMAP_CAPABILITY_TLS=IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE AUTH=PLAIN",
	"IMAP_KEYWORDS=1",
	"IMAP_ACL=0",
	"IMAP_IDLE_TIMEOUT=60",
	"IMAP_MAILBOX_SANITY_CHECK=1",
	"IMAP_CHECK_ALL_FOLDERS=0",
	"IMAP_OBSOLETE_CLIENT=0",
	"IMAP_UMASK=022",
	"IMAP_ULIMITD=131072",
	"IMAP_USELOCKS=1",
	"IMAP_ENHANCEDIDLE=0",
	"IMAP_TRASHFOLDERNAME=Trash",
	"IMAP_MOVE_EXPUNGE_TO_TRASH=0",
	"IMAP_STARTTLS=YES",
	"IMAP_TLS_REQUIRED=0",
	"IMAP_ID_FIELDS=7",
	"MAILDIRPATH=Maildir",
	"TLS_VERIFYPEER=NONE",
	"COURIERTLS=/usr/bin/couriertls",
}
