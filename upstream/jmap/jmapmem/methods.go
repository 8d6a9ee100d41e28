package jmapmem

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// api executes the calls of one request (RFC 8620 section 3).
func (a *Account) api(text []byte) Answer {
	var request struct {
		Using []string             `json:"using"`
		Calls [][3]json.RawMessage `json:"methodCalls"`
	}
	err := json.Unmarshal(text, &request)
	switch {
	case err != nil:
		return requestError("notJSON", "")
	case len(request.Calls) > a.limit(a.o.MaxCalls, 50):
		return requestError("limit", "maxCallsInRequest")
	case len(text) > a.limit(a.o.MaxRequest, 10<<20):
		return requestError("limit", "maxSizeRequest")
	case !slices.Contains(request.Using, "urn:ietf:params:jmap:core") || !slices.Contains(request.Using, "urn:ietf:params:jmap:mail"):
		return requestError("unknownCapability", "")
	}
	var out [][3]any
	replies := map[string]Reply{}
	for _, c := range request.Calls {
		var name, id string
		var args map[string]any
		if json.Unmarshal(c[0], &name) != nil || json.Unmarshal(c[1], &args) != nil || json.Unmarshal(c[2], &id) != nil {
			return requestError("notRequest", "")
		}
		r := a.execute(name, args, replies)
		replies[id] = r
		out = append(out, [3]any{r.Name, r.Args, id})
	}
	return asJSON(map[string]any{"methodResponses": out, "sessionState": "0"})
}

func (a *Account) limit(n, v int) int {
	if n == 0 {
		return v
	}
	return n
}

func requestError(kind, limit string) Answer {
	out := asJSON(map[string]any{"type": "urn:ietf:params:jmap:error:" + kind, "limit": limit, "status": 400})
	out.Status = http.StatusBadRequest
	out.Header.Set("Content-Type", "application/problem+json")
	return out
}

func (a *Account) execute(name string, args map[string]any, before map[string]Reply) Reply {
	if ref, ok := args["#ids"].(map[string]any); ok { // RFC 8620 section 3.7
		r, ok := before[fmt.Sprint(ref["resultOf"])]
		path, _ := ref["path"].(string)
		if !ok || r.Name != ref["name"] || !slices.Contains([]string{"/ids", "/created", "/updated"}, path) {
			return *Problem("invalidResultReference")
		}
		var ids []any
		for _, id := range r.Args.(map[string]any)[path[1:]].([]string) {
			ids = append(ids, id)
		}
		delete(args, "#ids")
		args["ids"] = ids
		if ids == nil {
			args["ids"] = []any{}
		}
	}
	if a.o.Before != nil {
		if r := a.o.Before(name, args); r != nil {
			return *r
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if args["accountId"] != a.o.ID {
		return *Problem("accountNotFound")
	}
	var out map[string]any
	var problem string
	switch name {
	case "Mailbox/get":
		out = a.mailboxGet()
	case "Email/query":
		out, problem = a.emailQuery(args)
	case "Email/changes":
		out, problem = a.emailChanges(args)
	case "Email/get":
		out, problem = a.emailGet(args)
	case "Email/set":
		out, problem = a.emailSet(args)
	default:
		problem = "unknownMethod"
	}
	if problem != "" {
		return *Problem(problem)
	}
	if a.o.After != nil {
		a.o.After(name, out)
	}
	return Reply{name, out}
}

// A Reply answers a method call.
type Reply struct {
	Name string // of the method, or "error"
	Args any
}

// Problem is the reply of a method that failed.
func Problem(kind string) *Reply { return &Reply{"error", map[string]any{"type": kind}} }

func (a *Account) note(what, detail string) {
	if a.o.Changed != nil {
		a.o.Changed(what, detail)
	}
}

func (a *Account) stateText() string { return fmt.Sprintf("s%d", a.state) }

func (a *Account) mailboxGet() map[string]any {
	var list []any
	for _, m := range a.mailboxes {
		v := map[string]any{"id": m.ID, "name": m.Name, "parentId": nil, "role": nil, "myRights": map[string]any{
			"mayReadItems": true, "mayAddItems": true, "mayRemoveItems": true, "maySetSeen": true, "maySetKeywords": true,
		}}
		if m.Parent != "" {
			v["parentId"] = m.Parent
		}
		if m.Role != "" {
			v["role"] = m.Role
		}
		list = append(list, v)
	}
	return map[string]any{"accountId": a.o.ID, "state": a.stateText(), "list": list, "notFound": []string{}}
}

func (a *Account) emailQuery(args map[string]any) (map[string]any, string) {
	filter, _ := args["filter"].(map[string]any)
	for k := range filter {
		if k != "inMailbox" && k != "notKeyword" {
			return nil, "unsupportedFilter"
		}
	}
	var all []string
	for _, e := range a.list(func(e *Email) bool {
		in, _ := filter["inMailbox"].(string)
		not, _ := filter["notKeyword"].(string)
		return e.Mailboxes[in] && !e.Keywords[not]
	}) {
		all = append(all, e.ID)
	}
	from := number(args["position"], 0)
	if anchor, ok := args["anchor"].(string); ok {
		at := slices.Index(all, anchor)
		if at < 0 {
			return nil, "anchorNotFound"
		}
		from = max(at+number(args["anchorOffset"], 0), 0)
	}
	if from < 0 { // counted from the end
		from = max(len(all)+from, 0)
	}
	from = min(from, len(all))
	n := number(args["limit"], len(all))
	out := map[string]any{"accountId": a.o.ID, "queryState": a.stateText(), "canCalculateChanges": false, "position": from, "total": len(all)}
	if a.o.QueryMax > 0 && n > a.o.QueryMax {
		n = a.o.QueryMax
		out["limit"] = n
	}
	out["ids"] = append([]string{}, all[from:min(from+n, len(all))]...)
	return out, ""
}

// emailChanges tells what changed since a state (RFC 8620 section 5.2).
func (a *Account) emailChanges(args map[string]any) (map[string]any, string) {
	var since int
	if _, err := fmt.Sscanf(fmt.Sprint(args["sinceState"]), "s%d", &since); err != nil || since < a.forgotten || since > a.state {
		return nil, "cannotCalculateChanges"
	}
	created, updated, destroyed := []string{}, []string{}, []string{}
	seen := map[string]bool{}
	out := map[string]any{"accountId": a.o.ID, "oldState": args["sinceState"], "newState": a.stateText(), "hasMoreChanges": false}
	for _, c := range a.history {
		if c.state <= since || seen[c.id] {
			continue
		}
		if len(created)+len(updated)+len(destroyed) == number(args["maxChanges"], 1<<30) {
			out["hasMoreChanges"], out["newState"] = true, fmt.Sprintf("s%d", c.state-1)
			break
		}
		seen[c.id] = true
		switch _, is := a.emails[c.id]; {
		case c.new && is:
			created = append(created, c.id)
		case is:
			updated = append(updated, c.id)
		case !c.new:
			destroyed = append(destroyed, c.id)
		}
	}
	out["created"], out["updated"], out["destroyed"] = created, updated, destroyed
	return out, ""
}

func number(v any, or int) int {
	if f, ok := v.(float64); ok {
		return int(f)
	}
	return or
}

func (a *Account) emailGet(args map[string]any) (map[string]any, string) {
	ids, _ := args["ids"].([]any)
	if len(ids) > a.limit(a.o.MaxGet, 4096) {
		return nil, "requestTooLarge"
	}
	list, notFound := []any{}, []string{}
	for _, v := range ids {
		id, _ := v.(string)
		e := a.emails[id]
		if e == nil {
			notFound = append(notFound, id)
			continue
		}
		full := map[string]any{
			"id": e.ID, "blobId": e.Blob, "size": len(e.Body), "receivedAt": e.Received.Format("2006-01-02T15:04:05Z"),
			"mailboxIds": maps.Clone(e.Mailboxes), "keywords": maps.Clone(e.Keywords),
		}
		out := map[string]any{"id": e.ID}
		properties, _ := args["properties"].([]any)
		for _, p := range properties {
			if v, ok := full[p.(string)]; ok {
				out[p.(string)] = v
			}
		}
		list = append(list, out)
	}
	return map[string]any{"accountId": a.o.ID, "state": a.stateText(), "list": list, "notFound": notFound}, ""
}

func (a *Account) emailSet(args map[string]any) (map[string]any, string) {
	update, _ := args["update"].(map[string]any)
	destroy, _ := args["destroy"].([]any)
	if len(update)+len(destroy) > a.limit(a.o.MaxSet, 4096) {
		return nil, "requestTooLarge"
	}
	old := a.stateText()
	if since, ok := args["ifInState"].(string); ok && since != old {
		return nil, "stateMismatch"
	}
	updated, notUpdated := map[string]any{}, map[string]any{}
	for id, patch := range update {
		if kind := a.patch(id, patch.(map[string]any)); kind != "" {
			notUpdated[id] = map[string]any{"type": kind}
			continue
		}
		updated[id] = nil
	}
	destroyed, notDestroyed := []string{}, map[string]any{}
	for _, v := range destroy {
		id, _ := v.(string)
		if a.emails[id] == nil && !a.o.GoneIsDestroyed {
			notDestroyed[id] = map[string]any{"type": "notFound"}
			continue
		}
		if a.emails[id] != nil {
			a.note("destroy", id)
			a.changed(id)
			delete(a.emails, id)
		}
		destroyed = append(destroyed, id)
	}
	return map[string]any{
		"accountId": a.o.ID, "oldState": old, "newState": a.stateText(), "updated": updated, "destroyed": destroyed,
		"notUpdated": notUpdated, "notDestroyed": notDestroyed,
	}, ""
}

// patch changes one Email (RFC 8620 section 5.3), or returns the type of the
// SetError.
func (a *Account) patch(id string, patch map[string]any) string {
	e := a.emails[id]
	if e == nil {
		return "notFound"
	}
	boxes, keywords := maps.Clone(e.Mailboxes), maps.Clone(e.Keywords)
	for path, v := range patch {
		if v != nil && v != true {
			return "invalidPatch"
		}
		name, key, _ := strings.Cut(path, "/")
		key = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
		switch name {
		case "mailboxIds":
			if !slices.ContainsFunc(a.mailboxes, func(m *Mailbox) bool { return m.ID == key }) {
				return "invalidProperties"
			}
			set(boxes, key, v != nil)
		case "keywords":
			set(keywords, key, v != nil)
		default:
			return "invalidPatch"
		}
	}
	if len(boxes) == 0 {
		return "invalidProperties"
	}
	a.changed(id)
	e.Mailboxes, e.Keywords = boxes, keywords
	text, _ := json.Marshal(patch)
	a.note("update", id+" "+string(text))
	return ""
}
