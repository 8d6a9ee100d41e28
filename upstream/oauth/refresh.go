package oauth

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/oauth/tokenfile"
)

// noted is for how long a success need not be written, where the refresh token
// stays the same.
const noted = time.Hour

// fetched is an access token that may be used, and the record that it came of.
type fetched struct {
	issued
	stamp tokenfile.Stamp
}

// unkept is an answer of the issuer whose refresh token could not be written yet.
type unkept struct {
	base   upstream.Secret // the refresh token that the record had
	record tokenfile.Record
	got    issued
	at     time.Time
}

// fetch gets an access token for e, past the gate.
func (t *Tokens) fetch(ctx context.Context, e *entry) (fetched, error) {
	switch t.o.Grant {
	case ClientCredentials:
		got, err := t.through(ctx, url.Values{"grant_type": {grantCredentials}})
		return fetched{issued: got}, err
	case ServiceAccount:
		jwt, err := t.o.Client.Key.sign(claims{
			Issuer: t.o.Client.ID, Subject: e.account, Audience: t.o.Endpoint.Token, Scope: strings.Join(t.o.Scopes, " "),
		})
		if err != nil {
			return fetched{}, &failure{outcome: BadClient, text: "the assertion cannot be signed", err: err}
		}
		got, err := t.through(ctx, url.Values{"grant_type": {grantJWT}, "assertion": {jwt}})
		return fetched{issued: got}, err
	}
	return t.refresh(ctx, e)
}

// refresh uses the refresh token of e under the lock of its record.
//
// The order is what saves the token. Room for the new record is made before the
// issuer is asked, so that a full disk costs no token. The new refresh token is
// written before the access token beside it is given to anybody. The one before it
// stays in the record until the new one has worked, for an issuer that replaced it
// and then forgot.
func (t *Tokens) refresh(ctx context.Context, e *entry) (out fetched, err error) {
	lock, err := t.o.Folder.Lock(ctx, t.name(e.account))
	if err != nil {
		out.stamp, _ = t.o.Folder.Stamp(t.name(e.account))
		return out, &failure{outcome: NotKept, text: "the refresh token cannot be locked", err: err}
	}
	defer func() {
		out.stamp, _ = lock.Stamp() // none where there is no record
		if uerr := lock.Unlock(); uerr != nil {
			t.o.Logger.Warn("the lock of a refresh token", "op", op, "grant", t.o.Name, "account", e.account, "err", uerr)
		}
	}()
	record, err := lock.Read()
	if err != nil {
		return out, missing(err)
	}
	if err := lock.Prepare(); err != nil {
		return out, &failure{outcome: NotKept, text: "the issuer is not asked, because its answer could not be kept", err: err}
	}
	if u := e.unkept; u != nil && u.base == record.Refresh {
		return t.keep(lock, e, u)
	}
	e.unkept = nil

	used, got, err := t.exchange(ctx, record)
	if err != nil {
		t.note(lock, record, err)
		return out, err
	}
	next := record
	next.Refresh, next.Previous = used, upstream.Secret{}
	if got.refresh != used {
		next.Refresh, next.Previous = got.refresh, used
	}
	if !got.expires.IsZero() {
		next.Expires = got.expires
	}
	next.Succeeded, next.Failed, next.Failure = time.Now(), time.Time{}, ""
	if next.Refresh == record.Refresh && next.Previous == record.Previous && record.Failed.IsZero() && t.recent(record.Succeeded) {
		out.issued = got
		return out, nil
	}
	return t.keep(lock, e, &unkept{base: record.Refresh, record: next, got: got, at: time.Now()})
}

// recent reports whether a success need not be written again. A time to come is
// none: the clock was wrong.
func (t *Tokens) recent(at time.Time) bool {
	age := time.Since(at)
	return age >= 0 && age < min(noted, t.o.Every/2)
}

// exchange tries the refresh token, and the one before it if the issuer does not
// take it. It returns the one that worked.
func (t *Tokens) exchange(ctx context.Context, r tokenfile.Record) (used upstream.Secret, got issued, err error) {
	used = r.Refresh
	got, err = t.through(ctx, refreshing(used))
	if f, ok := errors.AsType[*failure](err); !ok || f.code != "invalid_grant" || r.Previous == (upstream.Secret{}) {
		return used, got, err
	}
	used = r.Previous
	if older, olderErr := t.through(ctx, refreshing(used)); olderErr == nil {
		return used, older, nil
	}
	return used, got, err
}

func refreshing(token upstream.Secret) url.Values {
	return url.Values{"grant_type": {grantRefresh}, "refresh_token": {token.Reveal()}}
}

// keep writes the record, and only then lets the access token go.
func (t *Tokens) keep(lock *tokenfile.Lock, e *entry, u *unkept) (fetched, error) {
	if err := lock.Write(u.record); err != nil {
		e.unkept = u
		return fetched{}, &failure{outcome: NotKept, text: "the refresh token cannot be written", err: err}
	}
	e.unkept = nil
	got := u.got
	got.life -= time.Since(u.at)
	return fetched{issued: got}, nil
}

// note writes down that a person must act, once for each time that it comes to
// that. The tokens stay: nothing that an issuer says deletes them.
func (t *Tokens) note(lock *tokenfile.Lock, r tokenfile.Record, err error) {
	f, ok := errors.AsType[*failure](err)
	if !ok || f.kind() != upstream.Internal || !r.Failed.IsZero() && strings.Contains(r.Failure, f.code) {
		return
	}
	if r.Failed.IsZero() {
		r.Failed = time.Now()
	}
	r.Failure = f.text
	if err := lock.Write(r); err != nil {
		t.o.Logger.Warn("a failure cannot be written down", "op", op, "grant", t.o.Name, "err", err)
	}
}
