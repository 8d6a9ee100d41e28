package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
)

// Cyrus starts a private Cyrus under the given name. unpacked is a folder into
// which the package cyrus-imapd was unpacked, and maybe cyrus-pop3d: they cannot be
// installed beside Dovecot. The rest comes from the packages cyrus-common, cyrus-caldav, which has the
// HTTP service, and sasl2-bin. The users are the same over IMAP and JMAP.
func (l *Lab) Cyrus(ctx context.Context, name, unpacked string) (*Server, error) {
	s := &Server{Name: "cyrus"}
	err := freePorts(&s.IMAP, &s.IMAPS, &s.HTTP, &s.HTTPS)
	if err != nil {
		return nil, err
	}
	if s.Version, err = PackageVersion(ctx, "cyrus-common"); err != nil {
		return nil, err
	}
	uid, gid, err := systemUser("cyrus", "mail")
	if err != nil {
		return nil, err
	}
	dir, err := l.fresh(uid, gid, name)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"conf", "spool", "run"} {
		if _, err := l.folder(uid, gid, name, sub); err != nil {
			return nil, err
		}
	}
	bin := filepath.Join(unpacked, "usr/lib/cyrus/bin")
	pop3 := ""
	if _, err := os.Stat(filepath.Join(bin, "pop3d")); err == nil {
		if err := freePorts(&s.POP3, &s.POP3S); err != nil {
			return nil, err
		}
		pop3 = fmt.Sprintf(cyrusPOP3, bin, filepath.Join(dir, "imapd.conf"), s.POP3, s.POP3S)
	}
	conf, services := filepath.Join(dir, "imapd.conf"), filepath.Join(dir, "cyrus.conf")
	s.LogFile = filepath.Join(dir, "log")
	for file, text := range map[string]string{
		conf:     fmt.Sprintf(cyrusConf, dir, l.tls.chain, l.tls.key),
		services: fmt.Sprintf(cyrusServices, bin, conf, s.IMAP, s.IMAPS, s.HTTP, s.HTTPS, pop3),
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if err := cyrusUsers(ctx, filepath.Join(dir, "sasldb2"), uid, gid); err != nil {
		return nil, err
	}
	p, err := l.spawn(name, s.LogFile, nil, "/usr/lib/cyrus/bin/master",
		"-C", conf, "-M", services, "-p", filepath.Join(dir, "master.pid"))
	if err != nil {
		return nil, err
	}
	s.procs = append(s.procs, p)
	return s, s.await(ctx, s.IMAP, s.IMAPS, s.HTTP, s.HTTPS)
}

// cyrusUsers fills a SASL database. saslpasswd2 takes one user a run.
func cyrusUsers(ctx context.Context, db string, uid, gid int) error {
	tool, err := exec.LookPath("saslpasswd2")
	if err != nil {
		tool = "/usr/sbin/saslpasswd2"
	}
	for n := 1; n <= Users; n++ {
		_, pass := User(n)
		if _, err := output(ctx, pass, tool, "-p", "-c", "-f", db, "-u", "example.test", fmt.Sprintf("user%d", n)); err != nil {
			return err
		}
	}
	return os.Chown(db, uid, gid)
}

func systemUser(name, group string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, 0, err
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(g.Gid)
	return uid, gid, err
}

const cyrusConf = `configdirectory: %[1]s/conf
defaultpartition: default
partition-default: %[1]s/spool
cyrus_user: cyrus
cyrus_group: mail
admins: cyradm
allowplaintext: 1
sasl_mech_list: PLAIN LOGIN
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: %[1]s/sasldb2
virtdomains: userid
defaultdomain: internal.test
unixhierarchysep: 1
altnamespace: 1
autocreate_quota: 0
autocreate_post: 1
autocreate_inbox_folders: Sent | Trash
xlist-sent: Sent
xlist-trash: Trash
proc_path: %[1]s/run/proc
mboxname_lockpath: %[1]s/run/lock
idlesocket: %[1]s/run/idle
notifysocket: %[1]s/run/notify
maxlogins_per_user: 20
duplicatesuppression: 0
delete_mode: immediate
tls_server_cert: %[2]s
tls_server_key: %[3]s
tls_session_timeout: 0
conversations: 1
httpmodules: jmap
jmap_nonstandard_extensions: no
`

const cyrusServices = `START {
  recover cmd="/usr/lib/cyrus/bin/ctl_cyrusdb -C %[2]s -r"
}
SERVICES {
  imap  cmd="%[1]s/imapd -C %[2]s -U 30" listen="%[3]s" prefork=0 maxchild=60
  imaps cmd="%[1]s/imapd -C %[2]s -s -U 30" listen="%[4]s" prefork=0 maxchild=60
  http  cmd="/usr/lib/cyrus/bin/httpd -C %[2]s -U 30" listen="%[5]s" prefork=0 maxchild=60
  https cmd="/usr/lib/cyrus/bin/httpd -C %[2]s -s -U 30" listen="%[6]s" prefork=0 maxchild=60
%[7]s}
EVENTS {
}
`

const cyrusPOP3 = `  pop3  cmd="%[1]s/pop3d -C %[2]s -U 30" listen="%[3]s" prefork=0 maxchild=60
  pop3s cmd="%[1]s/pop3d -C %[2]s -s -U 30" listen="%[4]s" prefork=0 maxchild=60
`
