package cpio

import "testing"

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
