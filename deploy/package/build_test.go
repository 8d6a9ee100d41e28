package packages_test

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func TestBinaryIsStatic(t *testing.T) {
	f, err := elf.Open(built(t, "files/popgate"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the program has a segment %v: it is linked at run time", p.Type)
		}
	}
}

// TestBinaryIsReproducible builds the program again, in another folder, and with
// nothing compiled before.
func TestBinaryIsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles everything anew")
	}
	popgate := built(t, "files/popgate")
	version, revision := says(t, popgate)
	again := filepath.Join(t.TempDir(), "popgate")
	buildPopgate(t, source(t), again, version, revision, "GOCACHE="+t.TempDir())
	if a, b := digest(t, popgate), digest(t, again); a != b {
		t.Errorf("two builds of one source: %s and %s", a, b)
	}
}

// TestPackagesAreReproducible builds everything again: later, in another folder and
// with files of another age, in another time zone and for a user who lets nobody else
// read their files.
func TestPackagesAreReproducible(t *testing.T) {
	first := built(t, "SHA256SUMS")
	version, revision := says(t, built(t, "files/popgate"))
	bill := bill(t, built(t, "files/sbom.cdx.json"))
	at, err := time.Parse(time.RFC3339, bill.Metadata.Timestamp)
	if err != nil {
		t.Fatal(err)
	}
	folder := source(t)
	c := exec.Command("bash", "-c", "umask 077 && exec ./deploy/package.sh")
	c.Dir = folder
	c.Env = append(os.Environ(), "TZ=Asia/Tokyo", "VERSION="+version, "REVISION="+revision, "SOURCE_DATE_EPOCH="+strconv.FormatInt(at.Unix(), 10))
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("deploy/package.sh: %v\n%s", err, out)
	}
	want, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(folder, "dist/SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("two builds of one source, unless it has changed since dist was built:\n%s\n%s", want, got)
	}
}

// says is what the program says of its version and revision.
func says(t *testing.T, popgate string) (version, revision string) {
	t.Helper()
	text, err := exec.Command(popgate, "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	what := regexp.MustCompile(`^popgate (\S+)(?: \((\S+)\))? `).FindStringSubmatch(string(text))
	if what == nil {
		t.Fatalf("popgate version: %q", text)
	}
	return what[1], what[2]
}

// source is a copy of what popgate and its packages are built from.
func source(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for _, part := range []string{"cmd", "metrics", "proxy", "upstream", "deploy"} {
		if err := os.CopyFS(filepath.Join(folder, part), os.DirFS("../../"+part)); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum", "LICENSE", "README.md", "CHANGELOG.md"} {
		copyFile(t, "../../"+file, filepath.Join(folder, file), 0o644)
	}
	return folder
}

func digest(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

func TestDigestsAreThoseOfTheFiles(t *testing.T) {
	sums := built(t, "SHA256SUMS")
	text, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		files[filepath.Ext(name)] = true
		if got := digest(t, filepath.Join(filepath.Dir(sums), name)); got != sum {
			t.Errorf("%s: %s, in the list %s", name, got, sum)
		}
	}
	for _, kind := range []string{".deb", ".rpm", ".json", ".txt"} {
		if !files[kind] {
			t.Errorf("no %s among the digests", kind)
		}
	}
}

// TestBillIsOfTheBinary holds the bill of materials to the standard's schema and to
// what the binary says of itself.
func TestBillIsOfTheBinary(t *testing.T) {
	popgate, file := built(t, "files/popgate"), built(t, "files/sbom.cdx.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := billSchema(t).Validate(document); err != nil {
		t.Error(err)
	}
	bill := bill(t, file)
	if got, want := (*bill.Metadata.Component.Hashes)[0].Value, digest(t, popgate); got != want {
		t.Errorf("the bill is of %s, the program is %s", got, want)
	}
	listed := map[string]string{}
	for _, c := range *bill.Components {
		listed[c.Name] = c.Version
	}
	info, err := buildinfo.ReadFile(popgate)
	if err != nil {
		t.Fatal(err)
	}
	licences, err := os.ReadFile(built(t, "files/licences.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(listed) != len(info.Deps)+1 || "go"+listed["std"] != info.GoVersion {
		t.Errorf("%d parts with Go %s, want %d modules and %s", len(listed), listed["std"], len(info.Deps), info.GoVersion)
	}
	for _, m := range info.Deps {
		if listed[m.Path] != m.Version {
			t.Errorf("%s %s is in the program, in the bill %q", m.Path, m.Version, listed[m.Path])
		}
		if !bytes.Contains(licences, []byte("\n"+m.Path+" "+m.Version+": ")) {
			t.Errorf("the licence of %s is missing", m.Path)
		}
	}
}

func bill(t *testing.T, file string) cyclonedx.BOM {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var bill cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(f, cyclonedx.BOMFileFormatJSON).Decode(&bill); err != nil {
		t.Fatal(err)
	}
	return bill
}

// billSchema is the schema of CycloneDX 1.6, which its library comes with.
func billSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	for name, file := range map[string]string{
		"bom-1.6.schema.json":  "bom-1.6.schema.json",
		"spdx.schema.json":     "spdx.schema.json",
		"jsf-0.82.schema.json": "jsf-0.82.schemax.json", // as the library spells it
	} {
		f, err := os.Open(filepath.Join(strings.TrimSpace(string(folder)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		schema, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource("http://cyclonedx.org/schema/"+name, schema); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
