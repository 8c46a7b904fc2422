package sdboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxKernel bounds a unified kernel image, in bytes.
const maxKernel = 1 << 30

// maxCmdline bounds the command line in an image, in bytes. The kernel takes 2048.
const maxCmdline = 2048

// headerSize is how much of an image is looked at for its headers.
const headerSize = 4096

// image is what the headers of a unified kernel image say: a PE file (Microsoft's PE
// format, "PE32+") with sections named by systemd-stub.
type image struct {
	size    int64 // of the file; what lies behind does not belong to it
	cmdline [2]int64
}

// parseImage reads the headers of an image in their first 4096 bytes. limit is how many
// bytes there are.
func parseImage(head []byte, limit int64) (image, error) {
	var img image
	le := binary.LittleEndian
	if len(head) != headerSize || string(head[:2]) != "MZ" {
		return img, errors.New("unified kernel image: is none")
	}
	at := le.Uint32(head[0x3c:])
	if at > headerSize-24 || string(head[at:at+4]) != "PE\x00\x00" {
		return img, errors.New("unified kernel image: PE header is missing")
	}
	sections, optional := int(le.Uint16(head[at+6:])), uint32(le.Uint16(head[at+20:]))
	opt := at + 24
	table := opt + optional
	if table > headerSize || sections < 1 || sections > int(headerSize-table)/40 {
		return img, fmt.Errorf("unified kernel image: %d sections do not fit into its first %d bytes", sections, headerSize)
	}
	end := func(off, n uint32) error {
		if e := int64(off) + int64(n); e > limit {
			return fmt.Errorf("unified kernel image: reaches to byte %d of %d", e, limit)
		} else if n > 0 {
			img.size = max(img.size, e)
		}
		return nil
	}
	for i := range sections {
		s := head[int(table)+40*i:][:40]
		used, raw, off := le.Uint32(s[8:]), le.Uint32(s[16:]), le.Uint32(s[20:])
		if err := end(off, raw); err != nil {
			return img, err
		}
		if string(bytes.TrimRight(s[:8], "\x00")) == ".cmdline" {
			img.cmdline = [2]int64{int64(off), int64(min(used, raw))}
		}
	}
	// A signature lies behind the sections; of all directories only its place is a file
	// offset. 112 is where directories begin in an optional header of 64-bit images.
	const certificates = 112 + 4*8
	if optional >= certificates+8 && le.Uint16(head[opt:]) == 0x20b {
		if err := end(le.Uint32(head[opt+certificates:]), le.Uint32(head[opt+certificates+4:])); err != nil {
			return img, err
		}
	}
	if img.size < headerSize || img.size > maxKernel {
		return img, fmt.Errorf("unified kernel image: got %d bytes, want %d to %d", img.size, headerSize, maxKernel)
	}
	return img, nil
}

// readCmdline returns the command line of the image in r.
func (img image) readCmdline(r io.ReaderAt) (string, error) {
	if img.cmdline[1] == 0 {
		return "", nil
	}
	if img.cmdline[1] > maxCmdline {
		return "", fmt.Errorf("unified kernel image: command line: got %d bytes, want at most %d", img.cmdline[1], maxCmdline)
	}
	b := make([]byte, img.cmdline[1])
	if _, err := r.ReadAt(b, img.cmdline[0]); err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(bytes.TrimRight(b, "\x00")))
	for _, c := range []byte(line) {
		if c < ' ' || c > '~' {
			return "", fmt.Errorf("unified kernel image: command line %.200q: want plain characters in one line", line)
		}
	}
	return line, nil
}
