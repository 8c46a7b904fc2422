package grub

import (
	"fmt"
	"hash/crc32"
	"sort"
	"strconv"
	"strings"

	"github.com/twinkeel/twinkeel/partitions"
	"github.com/twinkeel/twinkeel/partitions/bootloader"
	"github.com/twinkeel/twinkeel/release"
)

// prefix begins the name of every variable that is ours.
const prefix = "twinkeel_"

// The variables of the record. Its first part, from begin to end, is what GRUB reads.
// GRUB has no checksums: it takes the part for whole if begin and end are equal, and so
// does this package. Every Store gives them another value.
const (
	varBegin   = prefix + "begin"
	varEnd     = prefix + "end"
	varEpoch   = prefix + "epoch"
	varDenied  = prefix + "denied"
	varAttempt = prefix + "denied_attempt"
	varCheck   = prefix + "check" // CRC-32 of the three above, which GRUB does not read
)

// slotVars are the names of what the record says of each slot.
var slotVars = [2]struct{ priority, tries, successful string }{
	partitions.A: {prefix + "a_priority", prefix + "a_tries", prefix + "a_successful"},
	partitions.B: {prefix + "b_priority", prefix + "b_tries", prefix + "b_successful"},
}

// loaderVars are the variables that GRUB reads, in their order.
func loaderVars() []string {
	names := []string{varBegin}
	for _, v := range slotVars {
		names = append(names, v.priority, v.tries, v.successful)
	}
	return append(names, varEnd)
}

// recordVars are all variables of the record.
var recordVars = append(loaderVars(), varEpoch, varDenied, varAttempt, varCheck)

// variables returns s as variables. Their widths are fixed, so that nothing behind them
// ever moves. seq tells this record from the one before.
func variables(s bootloader.State, seq uint32) []Variable {
	mark := fmt.Sprintf("%08x", seq)
	vars := []Variable{{varBegin, mark}}
	for _, slot := range partitions.Slots {
		r, names := s.Slots[slot], slotVars[slot]
		successful := "0"
		if r.Successful {
			successful = "1"
		}
		vars = append(vars,
			Variable{names.priority, strconv.Itoa(int(r.Priority))},
			Variable{names.tries, strconv.Itoa(int(r.Tries))},
			Variable{names.successful, successful})
	}
	mirror := []string{fmt.Sprintf("%016x", s.Epoch), s.Denied.String(), fmt.Sprintf("%016x", s.DeniedAttempt)}
	return append(vars, Variable{varEnd, mark},
		Variable{varEpoch, mirror[0]}, Variable{varDenied, mirror[1]}, Variable{varAttempt, mirror[2]},
		Variable{varCheck, checksum(mirror)})
}

func checksum(values []string) string {
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(strings.Join(values, "\n")+"\n")))
}

// whole reports whether GRUB would go by this block. One in which nothing boots was never
// stored, so it is not whole.
func whole(e *Env) bool {
	begin, _ := e.Get(varBegin)
	end, _ := e.Get(varEnd)
	_, boots := bootloader.State{Slots: slotRecords(e)}.Next()
	return begin != "" && begin == end && boots
}

// slotRecords reads the part that GRUB reads, as GRUB does: a value that the script has
// no branch for counts as zero.
func slotRecords(e *Env) [2]bootloader.Record {
	var out [2]bootloader.Record
	for _, slot := range partitions.Slots {
		names := slotVars[slot]
		successful, _ := e.Get(names.successful)
		out[slot] = bootloader.Record{
			Priority:   digit(e, names.priority, bootloader.MaxPriority),
			Tries:      digit(e, names.tries, bootloader.MaxTries),
			Successful: successful == "1",
		}
	}
	return out
}

func digit(e *Env, name string, limit uint8) uint8 {
	v, _ := e.Get(name)
	if len(v) == 1 && v[0] >= '0' && v[0] <= '0'+limit {
		return v[0] - '0'
	}
	return 0
}

// mirror reads into s what the agent mirrors in the record; it has a checksum, because
// a lower epoch must not come out of a damaged block.
func mirror(e *Env, s *bootloader.State) error {
	var values []string
	for _, name := range []string{varEpoch, varDenied, varAttempt} {
		v, _ := e.Get(name)
		values = append(values, v)
	}
	if check, _ := e.Get(varCheck); check != checksum(values) {
		return fmt.Errorf("boot record: %s is wrong", varCheck)
	}
	epoch, err := strconv.ParseUint(values[0], 16, 64)
	if err != nil {
		return fmt.Errorf("boot record: %s: %w", varEpoch, err)
	}
	denied, err := release.ParseDigest(values[1])
	if err != nil {
		return fmt.Errorf("boot record: %s: %w", varDenied, err)
	}
	attempt, err := strconv.ParseUint(values[2], 16, 64)
	if err != nil {
		return fmt.Errorf("boot record: %s: %w", varAttempt, err)
	}
	s.Epoch, s.Denied, s.DeniedAttempt = epoch, denied, attempt
	return nil
}

// The variables of a description. GRUB puts version, root hash, salt and hash offset on
// the kernel's command line; describes names the slot, so that no description is taken
// for that of the other slot.
const (
	varDescribes  = prefix + "describes"
	varVersion    = prefix + "version"
	varRootHash   = prefix + "roothash"
	varSalt       = prefix + "salt"
	varHashOffset = prefix + "hashoffset"
	varImages     = prefix + "images" // name:digest,name:digest
	varSum        = prefix + "sum"    // CRC-32 of all values above, which GRUB does not read
)

// descriptionVars are the variables that GRUB reads of a description, in their order.
func descriptionVars() []string {
	return []string{varDescribes, varVersion, varRootHash, varSalt, varHashOffset}
}

func describe(slot partitions.Slot, d bootloader.Description) ([]Variable, error) {
	var images []string
	for name, digest := range d.Images {
		if err := release.CheckName("image name", name); err != nil {
			return nil, fmt.Errorf("describe slot %s: %w", slot, err)
		}
		images = append(images, name+":"+digest.String())
	}
	sort.Strings(images)
	salt, err := d.Salt.MarshalText()
	if err != nil {
		return nil, fmt.Errorf("describe slot %s: %w", slot, err)
	}
	values := []string{slot.String(), d.Version.String(), d.Root.String(), string(salt), strconv.FormatInt(d.HashOffset, 10), strings.Join(images, ",")}
	var vars []Variable
	for i, name := range append(descriptionVars(), varImages) {
		vars = append(vars, Variable{name, values[i]})
	}
	return append(vars, Variable{varSum, checksum(values)}), nil
}

func described(slot partitions.Slot, e *Env) (bootloader.Description, error) {
	var values []string
	for _, name := range append(descriptionVars(), varImages) {
		v, _ := e.Get(name)
		values = append(values, v)
	}
	if sum, _ := e.Get(varSum); sum != checksum(values) || values[0] != slot.String() {
		return bootloader.Description{}, fmt.Errorf("description of slot %s: is not there, or damaged", slot)
	}
	d := bootloader.Description{}
	if err := d.Version.UnmarshalText([]byte(values[1])); err != nil {
		return d, fmt.Errorf("description of slot %s: %w", slot, err)
	}
	if err := d.Root.UnmarshalText([]byte(values[2])); err != nil {
		return d, fmt.Errorf("description of slot %s: %w", slot, err)
	}
	if err := d.Salt.UnmarshalText([]byte(values[3])); err != nil {
		return d, fmt.Errorf("description of slot %s: %w", slot, err)
	}
	var err error
	if d.HashOffset, err = strconv.ParseInt(values[4], 10, 64); err != nil || d.HashOffset < 0 {
		return d, fmt.Errorf("description of slot %s: hash offset %.40q is not a number of bytes", slot, values[4])
	}
	if values[5] == "" {
		return d, nil
	}
	d.Images = map[string]release.Digest{}
	for _, image := range strings.Split(values[5], ",") {
		name, hex, _ := strings.Cut(image, ":")
		if d.Images[name], err = release.ParseDigest(hex); err != nil {
			return d, fmt.Errorf("description of slot %s: image %.80q: %w", slot, name, err)
		}
	}
	return d, nil
}
