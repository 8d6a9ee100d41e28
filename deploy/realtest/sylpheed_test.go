package realtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func visitSylpheed(t *testing.T, v *visit) [][]byte {
	home := filepath.Join(v.dir, ".sylpheed-2.0")
	mail := filepath.Join(v.dir, "Mail")
	for _, box := range []string{"inbox", "sent", "draft", "queue", "trash", "junk"} {
		if err := os.MkdirAll(filepath.Join(mail, box), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "folderlist.xml")); err != nil {
		v.write(t, ".sylpheed-2.0/folderlist.xml", sylpheedFolders)
		v.write(t, ".sylpheed-2.0/sylpheedrc", "[Common]\ncheck_new_mail_on_startup=0\nshow_recv_dialog=0\nno_recv_error_panel=1\nclean_trash_on_exit=0\nauto_update_check=0\n")
		ca, err := os.ReadFile(v.ca)
		if err != nil {
			t.Fatal(err)
		}
		v.write(t, ".sylpheed-2.0/certs/ca-certificates.crt", string(ca))
	}
	security := map[string]int{plain: 0, tls: 1, stls: 2}[v.mode]
	removeMail, sizeLimit := 0, 0
	if v.remove {
		// Sylpheed deletes all that it has, and fetches what it has not. The
		// size limit, in KB, makes it leave the large newcomer alone.
		removeMail, sizeLimit = 1, 1
	}
	v.write(t, ".sylpheed-2.0/accountrc", fmt.Sprintf(sylpheedAccount, v.user, v.host, v.user, v.pass, removeMail, sizeLimit, v.port, security))
	v.sylpheed(t, home)
	return v.arrived(t, filepath.Join(mail, "inbox"), ".sylpheed")
}

// sylpheed starts the program, waits until it has received, and tells it to
// leave.
func (v *visit) sylpheed(t *testing.T, home string) {
	t.Helper()
	ctx := t.Context()
	deadline := time.Now().Add(visitTimeout)
	logFile := filepath.Join(v.dir, "sylpheed.log")
	log, err := os.Create(logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	env := []string{"DISPLAY=" + v.bench.display(t), "NO_AT_BRIDGE=1", "XDG_RUNTIME_DIR=" + v.dir}
	cmd := v.command(ctx, "sylpheed", "--receive-all", "--debug")
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	received := false
	for !received && time.Now().Before(deadline) {
		select {
		case err := <-done:
			t.Fatalf("sylpheed ended before it received: %v\n%s", err, v.tail(logFile))
		case <-tick.C:
			text, _ := os.ReadFile(logFile)
			received = strings.Contains(string(text), sylpheedDone)
		}
	}
	if !received {
		t.Errorf("sylpheed did not receive in time\n%s", v.tail(logFile))
		_ = cmd.Cancel()
		<-done
		return
	}
	quit := v.command(ctx, "sylpheed", "--exit")
	quit.Env = append(quit.Env, env...)
	if out, err := quit.CombinedOutput(); err != nil {
		t.Errorf("sylpheed --exit: %v\n%s", err, clip(out))
	}
	select {
	case <-done:
	case <-time.After(time.Until(deadline)):
		t.Errorf("sylpheed does not leave\n%s", v.tail(logFile))
		_ = cmd.Cancel()
		<-done
	}
}

func (v *visit) tail(file string) []byte {
	text, _ := os.ReadFile(file)
	return clip(text)
}

// sylpheedDone is what its debug log says when it has received.
const sylpheedDone = "inc_finished: "

const sylpheedFolders = `<?xml version="1.0" encoding="UTF-8"?>
<folderlist><folder type="mh" name="Mail" path="Mail">
<folderitem type="inbox" name="inbox" path="inbox" mtime="0" new="0" unread="0" total="0"/>
<folderitem type="outbox" name="sent" path="sent"/><folderitem type="draft" name="draft" path="draft"/>
<folderitem type="queue" name="queue" path="queue"/><folderitem type="trash" name="trash" path="trash"/>
<folderitem type="junk" name="junk" path="junk"/>
</folder></folderlist>
`

const sylpheedAccount = `[Account: 1]
account_name=lab
is_default=1
name=lab
address=%s
protocol=0
receive_server=%s
smtp_server=localhost
user_id=%s
password=%s
inbox=inbox
remove_mail=%d
message_leave_time=0
enable_size_limit=%d
size_limit=500
filter_on_receive=0
receive_at_get_all=1
set_popport=1
pop_port=%s
ssl_pop=%d
use_apop_auth=0
`
