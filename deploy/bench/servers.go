package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/popgate/popgate/deploy/lab"
)

// far is the round-trip time of the line between a gateway and the mail server
// where there is one.
const far = 20 * time.Millisecond

// backend is the mail server that everything is in front of.
type backend struct {
	srv             *lab.Server
	imap, pop3      string
	farIMAP, farPOP *delayLine
	homes           string
}

func startBackend(ctx context.Context, l *lab.Lab) (*backend, error) {
	b := &backend{homes: filepath.Join(l.Dir(), "homes")}
	if err := os.MkdirAll(b.homes, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chown(b.homes, lab.MailUser, lab.MailUser); err != nil {
		return nil, err
	}
	if err := freePorts(&b.imap, &b.pop3); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(commonConf, filepath.Join(l.Dir(), "backend"), "imap pop3") +
		fmt.Sprintf(backendConf, b.homes, lab.MailUser, port(b.imap), port(b.pop3))
	var err error
	if b.srv, err = startDovecot(ctx, l, "backend", conf, b.imap, b.pop3); err != nil {
		return nil, err
	}
	if b.farIMAP, err = newDelayLine(ctx, b.imap, far); err != nil {
		return nil, err
	}
	b.farPOP, err = newDelayLine(ctx, b.pop3, far)
	return b, err
}

func (b *backend) stop() {
	b.farIMAP.close()
	b.farPOP.close()
	_ = b.srv.Stop()
}

func startDovecot(ctx context.Context, l *lab.Lab, name, conf string, ports ...string) (*lab.Server, error) {
	dir := filepath.Join(l.Dir(), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "dovecot.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return l.Start(ctx, name, ports, "/usr/sbin/dovecot", "-F", "-c", file)
}

func freePorts(addrs ...*string) (err error) {
	for _, a := range addrs {
		if *a, err = lab.FreePort(); err != nil {
			return err
		}
	}
	return nil
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr) // of our own making
	return p
}

// A contender serves POP3: near the mail server, and over the line.
type contender struct {
	name      string
	near, far instance
	once      map[string]bool // rows over the line that are measured; nil: in every round
}

// instance is one running service.
type instance struct {
	addr  string
	srv   *lab.Server
	start func(ctx context.Context) (*lab.Server, error) // nil: it is not ours to start
	// forget removes what it keeps between starts.
	forget func() error
}

func (i *instance) tree() tree { return tree(i.srv.PID()) }

// anew starts the service as if it had never run.
func (i *instance) anew(ctx context.Context) (err error) {
	if i.start == nil {
		return nil
	}
	if i.srv != nil {
		if err := i.srv.Stop(); err != nil {
			return err
		}
	}
	if i.forget != nil {
		if err := i.forget(); err != nil {
			return err
		}
	}
	i.srv, err = i.start(ctx)
	return err
}

func (i *instance) stop() {
	if i.start != nil && i.srv != nil {
		_ = i.srv.Stop()
	}
}

// native is the mail server's own POP3.
func native(b *backend) *contender {
	return &contender{"native", instance{addr: b.pop3, srv: b.srv}, instance{addr: b.farPOP.addr(), srv: b.srv}, map[string]bool{}}
}

// imapc is Dovecot's gateway. Its indexes stay from session to session.
func imapc(ctx context.Context, l *lab.Lab, b *backend) (*contender, error) {
	one := func(name, upstream string) (i instance, err error) {
		dir := filepath.Join(l.Dir(), name)
		if err := freePorts(&i.addr); err != nil {
			return i, err
		}
		cache := filepath.Join(dir, "imapc")
		i.forget = func() error {
			if err := os.RemoveAll(cache); err != nil {
				return err
			}
			if err := os.MkdirAll(cache, 0o755); err != nil {
				return err
			}
			return os.Chown(cache, lab.MailUser, lab.MailUser)
		}
		conf := fmt.Sprintf(commonConf, dir, "pop3") + fmt.Sprintf(imapcConf, cache, port(upstream), lab.MailUser, port(i.addr))
		i.start = func(ctx context.Context) (*lab.Server, error) { return startDovecot(ctx, l, name, conf, i.addr) }
		return i, i.anew(ctx)
	}
	c := &contender{name: "imapc", once: map[string]bool{}}
	var err error
	if c.near, err = one("imapc-near", b.imap); err != nil {
		return nil, err
	}
	c.far, err = one("imapc-far", b.farIMAP.addr())
	return c, err
}

// popgate is the gateway of this module, with more settings in YAML behind those
// that it has to have.
func popgate(ctx context.Context, l *lab.Lab, b *backend, binary, name, settings string) (*contender, error) {
	c := &contender{name: name}
	var err error
	if c.near, err = popgateAt(ctx, l, binary, name+"-near", "imap://"+b.imap, settings); err != nil {
		return nil, err
	}
	c.far, err = popgateAt(ctx, l, binary, name+"-far", "imap://"+b.farIMAP.addr(), settings)
	return c, err
}

// popgateAt starts popgate before the mail service at url.
func popgateAt(ctx context.Context, l *lab.Lab, binary, name, url, settings string) (i instance, err error) {
	if err := freePorts(&i.addr); err != nil {
		return i, err
	}
	file := filepath.Join(l.Dir(), name+".yaml")
	conf := fmt.Sprintf("listen: pop3://%s\nlog: {level: error}\ndrain: 0s\nlimits: {connections-per-address: none, rate-per-address: none}\n"+
		"upstream:\n  url: %s\n%s", i.addr, url, settings)
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		return i, err
	}
	i.start = func(ctx context.Context) (*lab.Server, error) {
		return l.Start(ctx, name, []string{i.addr}, binary, "serve", "--config", file)
	}
	return i, i.anew(ctx)
}

const commonConf = `base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
protocols = %[2]s
listen = 127.0.0.1
first_valid_uid = 1
ssl = no
disable_plaintext_auth = no
auth_cache_size = 1M
mail_fsync = never
mail_max_userip_connections = 10000
default_process_limit = 5000
default_client_limit = 20000
service anvil {
  chroot =
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
`

// Login processes serve many clients, and session processes many sessions one
// after the other: the fast settings of its documentation.
const backendConf = `mail_location = maildir:~/Maildir
passdb {
  driver = static
  args = password=bench
}
userdb {
  driver = static
  args = uid=%[2]d gid=%[2]d home=%[1]s/%%u
}
pop3_no_flag_updates = yes
service imap-login {
  service_count = 0
  process_min_avail = 2
  inet_listener imap {
    port = %[3]s
  }
}
service pop3-login {
  service_count = 0
  process_min_avail = 2
  inet_listener pop3 {
    port = %[4]s
  }
}
service imap {
  service_count = 256
}
service pop3 {
  service_count = 256
}
`

const imapcConf = `mail_location = imapc:%[1]s/%%u
imapc_host = 127.0.0.1
imapc_port = %[2]s
imapc_features = rfc822.size fetch-headers
passdb {
  driver = imap
  args = host=127.0.0.1 port=%[2]s
  default_fields = userdb_imapc_user=%%u userdb_imapc_password=%%w userdb_uid=%[3]d userdb_gid=%[3]d
}
userdb {
  driver = prefetch
}
pop3_no_flag_updates = yes
service pop3-login {
  service_count = 0
  process_min_avail = 2
  inet_listener pop3 {
    port = %[4]s
  }
}
service pop3 {
  service_count = 256
}
`
