package oauth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// A Prompt is what a person has to do to consent.
type Prompt struct {
	URL     string    // the page to open
	Code    string    // what to enter there; "" for nothing
	Expires time.Time // zero: unknown
}

const (
	browserTime = 10 * time.Minute // for a person to consent in the browser
	maxCode     = 8 << 10          // octets of an authorization code
	callback    = "/"
)

var errNoRefresh = errors.New("the issuer gave no refresh token; is the scope for offline access among the scopes, and may the client have one?")

// Device gets the consent of account's user by a code that is entered on any other
// device (RFC 8628), and keeps the refresh token. tell is called once. It waits
// until the user has consented, the code has ended, or ctx has.
func (t *Tokens) Device(ctx context.Context, account string, tell func(Prompt)) error {
	if err := t.canLogin(t.o.Endpoint.Device, "device codes"); err != nil {
		return err
	}
	config, options, ctx, err := t.flow(ctx, url.Values{})
	if err != nil {
		return err
	}
	grant, err := config.DeviceAuth(ctx, options...)
	if err != nil {
		return t.classify(err, nil)
	}
	tell(Prompt{URL: grant.VerificationURI, Code: grant.UserCode, Expires: grant.Expiry})
	token, err := config.DeviceAccessToken(ctx, grant, options...)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the code has ended before anybody entered it")
	}
	if err != nil {
		return t.classify(err, url.Values{"device_code": {grant.DeviceCode}})
	}
	return t.consented(ctx, account, token)
}

// Browser gets the consent of account's user by a page in a browser on this
// machine, which comes back to a loopback address (RFC 8252 section 7.3) with a
// code that only this process can use (RFC 7636). listen is that address, such as
// "127.0.0.1:0". tell is called once. It waits for 10 minutes at most.
func (t *Tokens) Browser(ctx context.Context, account, listen string, tell func(Prompt)) error {
	if err := t.canLogin(t.o.Endpoint.Authorize, "logins in a browser"); err != nil {
		return err
	}
	if host, _, err := net.SplitHostPort(listen); err != nil || !loopback(host) {
		return fmt.Errorf("%q is no loopback address with a port, such as 127.0.0.1:0", listen)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, browserTime, errors.New("nobody has consented in time"))
	defer cancel()
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	config, options, clientCtx, err := t.flow(ctx, url.Values{})
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String()) // an address of a listener has a port
	config.RedirectURL = "http://" + net.JoinHostPort(t.o.Redirect, port) + callback

	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	ask := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("login_hint", account)}
	for name := range t.o.Prompt {
		ask = append(ask, oauth2.SetAuthURLParam(name, t.o.Prompt.Get(name)))
	}
	answers := make(chan answer, 1)
	server := &http.Server{
		Handler: redirected(state, answers), ReadTimeout: dialTime, WriteTimeout: dialTime,
		ReadHeaderTimeout: dialTime, MaxHeaderBytes: maxHeader,
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(ln) }() // ends by Close alone
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = server.Shutdown(end) // the browser gets its page
		_ = server.Close()
		<-served
	}()

	tell(Prompt{URL: config.AuthCodeURL(state, ask...), Expires: time.Now().Add(browserTime)})
	select {
	case a := <-answers:
		if a.err != nil {
			return a.err
		}
		token, err := config.Exchange(clientCtx, a.code, append(options, oauth2.VerifierOption(verifier))...)
		if err != nil {
			return t.classify(err, url.Values{"code": {a.code}, "code_verifier": {verifier}})
		}
		return t.consented(ctx, account, token)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// An answer is what the browser brought back.
type answer struct {
	code string
	err  error
}

// redirected takes the first answer that bears the state, and shows the person
// that the page can be closed. What bears another state is not ours.
func redirected(state string, answers chan<- answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != callback || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
			http.NotFound(w, r)
			return
		}
		a := answer{code: q.Get("code")}
		if problem := q.Get("error"); problem != "" {
			a.err = fmt.Errorf("the issuer says %s", clean(problem+": "+q.Get("error_description")))
		} else if a.code == "" || len(a.code) > maxCode {
			a.err = errors.New("the browser came back without a code")
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "popgate has its answer. This page can be closed.\n")
		select {
		case answers <- a:
		default: // the page was loaded again
		}
	})
}

// canLogin says why a flow is not to be had.
func (t *Tokens) canLogin(endpoint, what string) error {
	if t.AppOnly() {
		return fmt.Errorf("grant %s needs no login: it is the client's own", t.o.Name)
	}
	if endpoint == "" {
		return fmt.Errorf("the issuer of grant %s has no %s", t.o.Name, what)
	}
	return nil
}

// flow is the library's description of this client, the parameters that prove it,
// and a context that leads to the issuer.
func (t *Tokens) flow(ctx context.Context, params url.Values) (*oauth2.Config, []oauth2.AuthCodeOption, context.Context, error) {
	if err := t.prove(params); err != nil {
		return nil, nil, nil, err
	}
	var options []oauth2.AuthCodeOption
	for name := range params {
		options = append(options, oauth2.SetAuthURLParam(name, params.Get(name)))
	}
	return &oauth2.Config{
		ClientID: t.o.Client.ID, ClientSecret: t.o.Client.Secret.Reveal(), Scopes: t.o.Scopes,
		Endpoint: oauth2.Endpoint{
			AuthURL: t.o.Endpoint.Authorize, DeviceAuthURL: t.o.Endpoint.Device, TokenURL: t.o.Endpoint.Token, AuthStyle: t.style(),
		},
	}, options, context.WithValue(ctx, oauth2.HTTPClient, t.client), nil
}

// consented keeps a new refresh token, in place of any other.
func (t *Tokens) consented(ctx context.Context, account string, token *oauth2.Token) error {
	got, err := accept(token)
	if err != nil {
		return err
	}
	if got.refresh == (upstream.Secret{}) {
		return errNoRefresh
	}
	lock, err := t.o.Folder.Lock(ctx, t.name(account))
	if err != nil {
		return err
	}
	now := time.Now()
	err = lock.Write(tokenfile.Record{Refresh: got.refresh, Authorized: now, Succeeded: now, Expires: got.expires})
	return errors.Join(err, lock.Unlock())
}

// Remove deletes the refresh token of an account. Where there is none the error is
// [io/fs.ErrNotExist]. The issuer is not told.
func (t *Tokens) Remove(ctx context.Context, account string) error {
	if t.AppOnly() {
		return fmt.Errorf("grant %s keeps no tokens", t.o.Name)
	}
	lock, err := t.o.Folder.Lock(ctx, t.name(account))
	if err != nil {
		return err
	}
	return errors.Join(lock.Remove(), lock.Unlock())
}
