package pop3

import "github.com/xdg-go/scram"

// For the examples of the RFCs.
var (
	APOPDigest = apopDigest
	CRAMDigest = cramDigest
)

// SCRAMExample is the server's side of one exchange, with a nonce and a salt that
// are given.
func SCRAMExample(secret, salt, nonce string) *scram.ServerConversation {
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return scramKeys(secret, salt) })
	if err != nil {
		panic(err)
	}
	return server.WithNonceGenerator(func() string { return nonce }).NewConversation()
}
