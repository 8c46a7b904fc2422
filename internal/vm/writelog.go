package vm

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// Effect is one write or flush that a machine made on its disk.
type Effect struct {
	At     int64 // byte on the disk
	Data   []byte
	Flush  bool // everything before it is durable
	Sector int  // how many bytes the disk writes whole or not at all; 0: 512
}

// The flags of an entry in a log, linux/Documentation/device-mapper/log-writes.rst.
const (
	logMagic   = 0x6a736677736872
	logFlush   = 1
	logFUA     = 2
	logDiscard = 4
)

// ReadLog reads what QEMU's blklogwrites recorded.
func ReadLog(path string) ([]Effect, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if len(b) < sector || le.Uint64(b) != logMagic {
		return nil, fmt.Errorf("%s: is no write log", path)
	}
	count, unit := le.Uint64(b[16:]), uint64(le.Uint32(b[24:]))
	var effects []Effect
	for at := unit; count > 0; count-- {
		if at+unit > uint64(len(b)) {
			return nil, fmt.Errorf("%s: %w", path, io.ErrUnexpectedEOF)
		}
		where, n, flags := le.Uint64(b[at:]), le.Uint64(b[at+8:]), le.Uint64(b[at+16:])
		at += unit
		e := Effect{At: int64(where * unit), Flush: flags&(logFlush|logFUA) != 0, Sector: int(unit)}
		if flags&logDiscard == 0 {
			if n*unit > uint64(len(b))-at {
				return nil, fmt.Errorf("%s: %w", path, io.ErrUnexpectedEOF)
			}
			e.Data = b[at : at+n*unit]
			at += n * unit
		}
		effects = append(effects, e)
	}
	return effects, nil
}

// Cut writes onto disk what a power cut can leave of effects, none of which is a flush:
// random ones, and of the last of them a part. Without random, all of them.
func Cut(disk io.WriterAt, effects []Effect, random *rand.Rand) error {
	for i, e := range effects {
		data := e.Data
		if random != nil {
			if random.IntN(2) == 0 {
				continue
			}
			if i == len(effects)-1 {
				whole := max(e.Sector, sector)
				data = data[:random.IntN(len(data)/whole+1)*whole]
			}
		}
		if _, err := disk.WriteAt(data, e.At); err != nil {
			return err
		}
	}
	return nil
}
