package proof_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/popgate/popgate/cmd/internal/mutants"
	"github.com/popgate/popgate/cmd/internal/proof"
)

// mutantsSeed is the environment variable that chooses the sample of the quick
// level.
const mutantsSeed = "POPGATE_MUTANTS_SEED"

// TestEveryMutantIsKilled sabotages one promise at a time and lets the tests find
// it: a sample at the quick level, all at the full one.
func TestEveryMutantIsKilled(t *testing.T) {
	if proof.Pick(true, false, false) {
		t.Skip("runs the tests again and again: at the levels quick and full")
	}
	list := mutants.List()
	all := len(list)
	seed, _ := strconv.ParseUint(os.Getenv(mutantsSeed), 10, 64) // none is 0
	rand.New(rand.NewPCG(seed, 22)).Shuffle(all, func(i, j int) { list[i], list[j] = list[j], list[i] })
	list = list[:proof.Pick(0, min(8, all), all)]

	root, err := mutants.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := mutants.Copy(root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tried, killed := 0, 0
	for _, m := range list {
		t.Run(m.Name, func(t *testing.T) { // so that -run chooses one
			tried++
			v := tree.Run(t.Context(), m)
			if v.Err == nil && v.Killer != "" {
				killed++
				t.Log(v)
			} else {
				t.Errorf("%v\n\tit breaks: %s", v, m.Promise)
			}
		})
	}
	proof.Report(t, "M22", killed == tried, "%d of %d mutants tried, %d killed", tried, all, killed)
}
