package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Nginx starts nginx as a POP3 proxy that asks the auth_http service at url, with
// the secret key in the header X-Auth-Key. It offers STLS. The server's POP3 is its
// address.
func (l *Lab) Nginx(ctx context.Context, name, url, key string) (*Server, error) {
	dir, err := l.fresh(os.Getuid(), os.Getgid(), name)
	if err != nil {
		return nil, err
	}
	s := &Server{Name: name, LogFile: filepath.Join(dir, "log")}
	if s.Version, err = PackageVersion(ctx, "libnginx-mod-mail"); err != nil {
		return nil, err
	}
	if s.POP3, err = FreePort(); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConf, dir, strings.TrimPrefix(url, "http://"), key, l.Certificate(), l.Key(), s.POP3)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p, err := l.spawn(name, s.LogFile, nil, "/usr/sbin/nginx", "-e", "stderr", "-p", dir, "-c", config)
	if err != nil {
		return nil, err
	}
	s.procs = append(s.procs, p)
	if err := WaitOpen(ctx, s.POP3); err != nil {
		log, _ := os.ReadFile(s.LogFile)
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, log), s.Stop())
	}
	return s, nil
}

const nginxConf = `load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr info;
events { worker_connections 256; }
mail {
  server_name gate.example.test;
  auth_http %[2]s;
  auth_http_header X-Auth-Key %[3]s;
  auth_http_pass_client_cert off;
  auth_http_timeout 10s;
  pop3_auth plain;
  ssl_certificate %[4]s;
  ssl_certificate_key %[5]s;
  server { listen %[6]s; protocol pop3; starttls on; }
}
`
