package memdrop_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/popgate/popgate/upstream"
	"github.com/popgate/popgate/upstream/memdrop"
)

// One session: prove, take, read, commit.
func Example() {
	store := memdrop.New()
	store.AddUser("alice", "pw",
		memdrop.Message{ID: "a1", Body: []byte("Subject: one\r\n\r\nHello.\r\n")},
		memdrop.Message{ID: "a2", Body: []byte("Subject: two\r\n\r\n")},
	)

	ctx := context.Background()
	account, err := store.Login(ctx, upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer account.Close()
	maildrop, err := account.Open(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range maildrop.Len() {
		fmt.Printf("%s %d\n", maildrop.AppendUIDL(nil, i), maildrop.Size(i))
	}
	receipt, err := maildrop.Update(ctx, upstream.Changes{Remove: []int{0}})
	fmt.Printf("%+v %v\n", receipt, err)
	fmt.Println(len(store.Messages("alice")), "left")
	// Output:
	// a1 24
	// a2 16
	// {Removed:1 Missing:0 Kept:0} <nil>
	// 1 left
}

// A body that ends too early, after 10 octets.
func ExampleFaults() {
	store := memdrop.New()
	store.AddUser("alice", "pw", memdrop.Message{ID: "a1", Body: []byte("Subject: one\r\n\r\nHello.\r\n")})
	store.SetFaults(memdrop.Faults{Body: func(user, id string) *memdrop.Cut {
		return &memdrop.Cut{After: 10, Err: &upstream.Error{Kind: upstream.Unavailable, Op: "read", Err: errors.New("connection lost")}}
	}})

	ctx := context.Background()
	account, _ := store.Login(ctx, upstream.Credentials{User: "alice", Secret: upstream.NewSecret("pw")})
	defer account.Close()
	maildrop, _ := account.Open(ctx)
	body, _ := maildrop.Retrieve(ctx, 0, upstream.Extent{})
	defer body.Close()
	text, err := io.ReadAll(body)
	fmt.Printf("%q %v\n", text, err)
	// Output: "Subject: o" read: unavailable: connection lost
}
