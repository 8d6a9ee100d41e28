package route

import (
	"context"
	"net/http"
)

// LoopbackOnly is asked about each address that http:// is to connect to.
var LoopbackOnly = loopbackOnly

// Wait holds an answer back as its headers ask for.
func Wait(a *AuthHTTP, ctx context.Context, reply http.Header) { a.wait(ctx, reply) }
