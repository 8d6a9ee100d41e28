package memdrop_test

import (
	"testing"

	"github.com/popgate/popgate/upstream/memdrop/memdroptest"
	"github.com/popgate/popgate/upstream/upstreamtest"
)

func TestConformance(t *testing.T) {
	upstreamtest.Run(t, func(t *testing.T) upstreamtest.Harness { return memdroptest.Harness(t, nil) })
}
