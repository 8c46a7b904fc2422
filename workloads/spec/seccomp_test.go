package spec

import (
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"
)

// meets reports whether a value of an argument is allowed, as the kernel would.
func meets(list []specs.LinuxSeccompArg, value uint64) bool {
	return slices.ContainsFunc(list, func(a specs.LinuxSeccompArg) bool {
		return a.Op == specs.OpMaskedEqual && value&a.Value == a.ValueTwo
	})
}

func TestAllRequestsToDevicesButTypingAreAllowed(t *testing.T) {
	list := others(1, typing)
	t.Logf("%d conditions", len(list))
	rapid.Check(t, func(t *rapid.T) {
		near := rapid.SampledFrom(typing).Draw(t, "near") ^ 1<<rapid.IntRange(0, 31).Draw(t, "bit")
		low := rapid.OneOf(rapid.SampledFrom(typing), rapid.Just(near), rapid.Uint32()).Draw(t, "request")
		value := uint64(rapid.Uint32().Draw(t, "upper half"))<<32 | uint64(low)
		if want := !slices.Contains(typing, low); meets(list, value) != want {
			t.Fatalf("request %#x: got allowed %t, want %t", value, !want, want)
		}
	})
	for low := range uint32(1 << 16) {
		if meets(list, uint64(low)) == slices.Contains(typing, low) {
			t.Errorf("request %#x: got allowed %t", low, meets(list, uint64(low)))
		}
	}
}
