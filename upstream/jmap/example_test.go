package jmap_test

import (
	"context"
	"fmt"
	"io"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/jmap"
)

func ExampleStore() {
	store, err := jmap.New(jmap.Options{URL: "https://jmap.example.net", Delete: jmap.Trash})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	account, err := store.Login(ctx, upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")})
	if err != nil {
		return // upstream.KindOf(err) tells what to answer
	}
	defer account.Close()
	drop, err := account.Open(ctx)
	if err != nil || drop.Len() == 0 {
		return
	}
	body, err := drop.Retrieve(ctx, 0, upstream.Extent{})
	if err != nil {
		return
	}
	defer body.Close()
	io.Copy(io.Discard, body)
}
