package tokenfile

// At lets tests stop the world at the steps of a write.
func (f *Folder) At(step func(string)) { f.at = step }

// Path is the file of a record.
func (f *Folder) Path(n Name) string { return f.file(n) + ending }

// Seal makes the octets of a file.
func (f *Folder) Seal(n Name, r Record) ([]byte, error) { return f.seal.seal(n, r) }
