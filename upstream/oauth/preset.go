package oauth

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// A Preset is what is known of a mail service, so that a configuration need not
// say it.
type Preset struct {
	Endpoint  Endpoint
	Scopes    []string // for users' consent
	AppScopes []string // for an app-only grant
	Prompt    url.Values
	Redirect  string
	Idle      time.Duration

	// Where its mailboxes are: IMAP with TLS from the first octet.
	Host string
	Port uint16
	// Delete is the way to delete that does there what POP3 promises: "expunge",
	// or "trash" where an expunge leaves the message in another mailbox.
	Delete string
}

const day = 24 * time.Hour

// Microsoft is Microsoft 365 and Outlook.com. The tenant is a directory's id or
// domain; "" is "organizations", which serves any directory but is no tenant that
// an app-only grant can use.
func Microsoft(tenant string) (Preset, error) {
	if tenant == "" {
		tenant = "organizations"
	}
	if len(tenant) > 253 || strings.ContainsFunc(tenant, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	}) {
		return Preset{}, fmt.Errorf("%q is no id and no domain of a tenant", tenant)
	}
	base := "https://login.microsoftonline.com/" + tenant + "/oauth2/v2.0/"
	return Preset{
		Endpoint:  Endpoint{Token: base + "token", Device: base + "devicecode", Authorize: base + "authorize"},
		Scopes:    []string{"https://outlook.office.com/IMAP.AccessAsUser.All", "offline_access"},
		AppScopes: []string{"https://outlook.office365.com/.default"},
		Redirect:  "localhost", // the one host whose port it lets vary
		Idle:      90 * day,
		Host:      "outlook.office365.com", Port: 993, Delete: "expunge",
	}, nil
}

// Google is Gmail and Google Workspace. Its device codes do not serve mail: users
// consent in a browser.
func Google() Preset {
	return Preset{
		Endpoint:  Endpoint{Token: "https://oauth2.googleapis.com/token", Authorize: "https://accounts.google.com/o/oauth2/v2/auth"},
		Scopes:    []string{"https://mail.google.com/"},
		AppScopes: []string{"https://mail.google.com/"},
		Prompt:    url.Values{"access_type": {"offline"}, "prompt": {"consent"}},
		Redirect:  "127.0.0.1",
		Idle:      180 * day,
		Host:      "imap.gmail.com", Port: 993, Delete: "trash",
	}
}

// Apply sets what o does not say itself.
func (p Preset) Apply(o *Options) {
	if o.Endpoint == (Endpoint{}) {
		o.Endpoint = p.Endpoint
	}
	if len(o.Scopes) == 0 {
		o.Scopes = p.Scopes
		if o.Grant != Refresh {
			o.Scopes = p.AppScopes
		}
	}
	if o.Prompt == nil {
		o.Prompt = p.Prompt
	}
	if o.Redirect == "" {
		o.Redirect = p.Redirect
	}
	if o.Idle == 0 {
		o.Idle = p.Idle
	}
}
