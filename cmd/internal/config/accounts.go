package config

// Accounts are the users whom popgate proves itself.
type Accounts struct {
	File string // "" for none
}
