package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// MailUser is the id of the system user that owns the mail of Dovecot and
// Courier. Every Debian has it: mail, with a group of the same number.
const MailUser = 8

// DovecotOptions changes what differs between instances.
type DovecotOptions struct {
	// MaxConnections is the number of IMAP connections that one user may have
	// from one address; 0 means 30.
	MaxConnections int
	// Separator is between the levels of mailbox names; "" means "/".
	Separator string
	// Introspection is the URL that is asked for access tokens (RFC 7662); with ""
	// none are taken. The user is the one of its "email".
	Introspection string
	// TokenMechanisms are those that take access tokens; "" means both,
	// "xoauth2 oauthbearer".
	TokenMechanisms string
	// Settings are lines of dovecot.conf that count beside, or in the place of, the lab's.
	Settings string
}

// DovecotMaster may log in for every user of Dovecot, by the authorization
// identity of PLAIN or as user*master, with DovecotMasterPassword.
const (
	DovecotMaster         = "master"
	DovecotMasterPassword = "pass of master"
)

// Dovecot starts a private Dovecot under the given name, which is also its
// folder in the lab. Where its POP3 part is installed it serves that too.
func (l *Lab) Dovecot(ctx context.Context, name string, o DovecotOptions) (*Server, error) {
	s := &Server{Name: "dovecot"}
	err := freePorts(&s.IMAP, &s.IMAPS)
	if err != nil {
		return nil, err
	}
	if s.Version, err = PackageVersion(ctx, "dovecot-imapd"); err != nil {
		return nil, err
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 30
	}
	if o.Separator == "" {
		o.Separator = "/"
	}
	dir, err := l.fresh(0, 0, name)
	if err != nil {
		return nil, err
	}
	if _, err = l.folder(MailUser, MailUser, name, "mail"); err != nil {
		return nil, err
	}
	var users strings.Builder
	for n := 1; n <= Users; n++ {
		user, pass := User(n)
		fmt.Fprintf(&users, "%s:{PLAIN}%s:%d:%d::%s/mail/user%d::\n", user, pass, MailUser, MailUser, dir, n)
	}
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte(users.String()), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "masters"), []byte(DovecotMaster+":{PLAIN}"+DovecotMasterPassword+"\n"), 0o644); err != nil {
		return nil, err
	}
	mechanisms, tokens := "plain login", ""
	if o.Introspection != "" {
		if o.TokenMechanisms == "" {
			o.TokenMechanisms = "xoauth2 oauthbearer"
		}
		mechanisms += " " + o.TokenMechanisms
		file := filepath.Join(dir, "oauth2.conf.ext")
		if err := os.WriteFile(file, fmt.Appendf(nil, dovecotTokens, o.Introspection), 0o644); err != nil {
			return nil, err
		}
		tokens = dovecotNoPenalty + "passdb {\n  driver = oauth2\n  mechanisms = " + o.TokenMechanisms + "\n  args = " + file + "\n}\n"
	}
	protocols, pop3 := "imap", ""
	if _, err := os.Stat("/usr/lib/dovecot/pop3"); err == nil {
		if err := freePorts(&s.POP3, &s.POP3S); err != nil {
			return nil, err
		}
		protocols, pop3 = "imap pop3", fmt.Sprintf(dovecotPOP3, port(s.POP3), port(s.POP3S))
	}
	s.LogFile = filepath.Join(dir, "log")
	conf := fmt.Sprintf(dovecotConf, dir, protocols, s.LogFile, l.tls.chain, l.tls.key,
		o.MaxConnections, port(s.IMAP), port(s.IMAPS), o.Separator, mechanisms) + tokens + pop3 + o.Settings
	file := filepath.Join(dir, "dovecot.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	p, err := l.spawn(name, s.LogFile, nil, "/usr/sbin/dovecot", "-F", "-c", file)
	if err != nil {
		return nil, err
	}
	s.procs = append(s.procs, p)
	return s, s.await(ctx, s.IMAP, s.IMAPS)
}

// await waits for the ports of a server that was just started and stops it if
// they do not open.
func (s *Server) await(ctx context.Context, addrs ...string) error {
	for _, a := range addrs {
		if err := WaitOpen(ctx, a); err != nil {
			_ = s.Stop()
			return fmt.Errorf("%s: %w (log: %s)", s.Name, err, s.LogFile)
		}
	}
	return nil
}

const dovecotConf = `base_dir = %[1]s/run
state_dir = %[1]s/state
protocols = %[2]s
log_path = %[3]s
auth_verbose = yes
listen = 127.0.0.1
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_fsync = never
disable_plaintext_auth = no
ssl = yes
ssl_cert = <%[4]s
ssl_key = <%[5]s
auth_mechanisms = %[10]s
auth_master_user_separator = *
auth_failure_delay = 1 secs
mail_max_userip_connections = %[6]d
passdb {
  driver = passwd-file
  args = %[1]s/masters
  master = yes
}
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%%u %[1]s/users
}
userdb {
  driver = passwd-file
  args = username_format=%%u %[1]s/users
}
namespace inbox {
  inbox = yes
  separator = %[9]s
  mailbox Trash {
    auto = create
    special_use = \Trash
  }
}
service imap-login {
  inet_listener imap {
    port = %[7]s
  }
  inet_listener imaps {
    port = %[8]s
    ssl = yes
  }
}
service anvil {
  chroot =
  unix_listener anvil-auth-penalty {
    mode = 0 # no longer delays from one failure to the next: every client has one address
  }
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
`

const dovecotTokens = `introspection_mode = post
introspection_url = %s
username_attribute = email
active_attribute = active
active_value = true
`

// A token that has ended is refused and the next one accepted at once: what slows
// guessers down would let that one end too.
const dovecotNoPenalty = `auth_failure_delay = 0
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
`

// Dovecot's POP3 marks what it sent as read; the gateway does not, so neither
// does this one when it stands in.
const dovecotPOP3 = `pop3_no_flag_updates = yes
service pop3-login {
  inet_listener pop3 {
    port = %[1]s
  }
  inet_listener pop3s {
    port = %[2]s
    ssl = yes
  }
}
`
