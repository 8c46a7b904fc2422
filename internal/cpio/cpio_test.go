package cpio

import (
	"slices"
	"strings"
	"testing"
)

func TestAnArchiveIsWhatTheKernelReads(t *testing.T) {
	var a Archive
	a.Add("etc", Directory|0o755, nil)
	a.Add("etc/hello", Regular|0o644, []byte("hello"))
	const zero = "00000000"
	want := "070701" + "00000001" + "000041ed" + zero + zero + "00000001" + zero + zero + zero + zero + zero + zero + "00000004" + zero + "etc\x00\x00\x00" +
		"070701" + "00000002" + "000081a4" + zero + zero + "00000001" + zero + "00000005" + zero + zero + zero + zero + "0000000a" + zero + "etc/hello\x00" + "hello\x00\x00\x00" +
		"070701" + "00000003" + zero + zero + zero + "00000001" + zero + zero + zero + zero + zero + zero + "0000000b" + zero + "TRAILER!!!\x00\x00\x00\x00"
	if got := string(a.Bytes()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func archive(names ...string) string {
	var a Archive
	for _, name := range names {
		a.Add(name, Regular|0o644, []byte(name))
	}
	return string(a.Bytes())
}

func TestWalkNamesEntriesUpToWhatIsNoArchive(t *testing.T) {
	two := archive("early") + strings.Repeat("\x00", 5000) + archive("init", "etc/x")
	for content, c := range map[string]struct {
		names []string
		end   int
	}{
		"":                    {nil, 0},
		two:                   {[]string{"early", "init", "etc/x"}, len(two)},
		two + "\x00\x00":      {[]string{"early", "init", "etc/x"}, len(two) + 2},
		two + "\x1f\x8b rest": {[]string{"early", "init", "etc/x"}, len(two)},
	} {
		var names []string
		end, err := Walk(strings.NewReader(content), int64(len(content)), func(name string) { names = append(names, name) })
		if err != nil || end != int64(c.end) || !slices.Equal(names, c.names) {
			t.Errorf("%d bytes: got %v up to %d, %v, want %v up to %d", len(content), names, end, err, c.names, c.end)
		}
	}
	for _, torn := range []string{two[:len(two)-20], Magic + strings.Repeat("f", HeaderSize), Magic + strings.Repeat("0", HeaderSize)} {
		if _, err := Walk(strings.NewReader(torn), int64(len(torn)), func(string) {}); err == nil {
			t.Errorf("%.30q: was taken", torn)
		}
	}
}

func FuzzWalk(f *testing.F) {
	f.Add([]byte(archive("init")))
	f.Add([]byte(archive("early") + "\x00\x00\x00\x00\x1f\x8b"))
	f.Add([]byte("070701ffffffffffffffff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end, err := Walk(strings.NewReader(string(b)), int64(len(b)), func(string) {})
		if err == nil && (end < 0 || end > int64(len(b))) {
			t.Errorf("got %d of %d", end, len(b))
		}
	})
}
