package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxKeyFile bounds a key file, in bytes.
const maxKeyFile = 64 << 10

// Passphrase returns the passphrase of encrypted keys; a Ring asks it once.
type Passphrase func() ([]byte, error)

// Ring finds private keys by key id. A directory of keys holds pairs: NAME.pub, which
// tells the id without a passphrase, and NAME.pem, or NAME.kms with the name of a key
// behind a plugin. A NAME.pub alone is a key that is known but kept elsewhere.
type Ring struct {
	// Plugins runs keys that live elsewhere.
	Plugins    Plugins
	passphrase Passphrase
	known      map[string]reference
	opened     map[string]*PrivateKey
	asked      bool
	pass       []byte
	passErr    error
}

// reference says where a key is kept: a string, so that a scheme such as NAME://KEY can
// name a key that lives in a device.
type reference struct {
	name, location string
	// costly keys are encrypted, and take time to open. One that was named on purpose
	// (Add) or lies there in the clear is not.
	costly bool
}

// OpenRing looks through directories of keys; one that does not exist is an empty one.
// No private key is opened yet.
func OpenRing(passphrase Passphrase, dirs ...string) (*Ring, error) {
	r := &Ring{passphrase: passphrase, known: map[string]reference{}, opened: map[string]*PrivateKey{}}
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*.pub"))
		if err != nil {
			return nil, fmt.Errorf("open keys %s: %w", dir, err)
		}
		for _, pub := range names {
			ref, err := findPrivate(strings.TrimSuffix(pub, ".pub"))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("open keys: %w", err)
			}
			key, err := ReadPublic(pub)
			if err != nil {
				return nil, err
			}
			r.known[key.ID] = ref
		}
	}
	return r, nil
}

// findPrivate finds the private half of a key by the path of its files without suffix.
func findPrivate(base string) (reference, error) {
	ref := reference{name: filepath.Base(base), location: base + ".pem"}
	secret, err := readSmall(ref.location)
	if err == nil {
		ref.costly = bytes.Contains(secret, []byte("ENCRYPTED"))
		return ref, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return ref, err
	}
	text, err := readSmall(base + ".kms")
	if err != nil {
		return ref, err
	}
	// A device may want to be touched: as dear as a passphrase.
	ref.location, ref.costly = strings.TrimSpace(string(text)), true
	if !IsPluginKey(ref.location) {
		return ref, fmt.Errorf("%s.kms: got %.80q, want NAME://KEY", base, ref.location)
	}
	return ref, nil
}

// Add puts the private key in the file at path, or the key NAME://KEY behind a plugin,
// into the ring, and opens it.
func (r *Ring) Add(path string) (*PrivateKey, error) {
	key, err := r.open(path)
	if err != nil {
		return nil, err
	}
	r.Hold(strings.TrimSuffix(filepath.Base(path), ".pem"), key)
	return key, nil
}

// Hold puts a key that is open into the ring.
func (r *Ring) Hold(name string, key *PrivateKey) {
	r.known[key.Public.ID] = reference{name: name, location: name}
	r.opened[key.Public.ID] = key
}

// Has reports whether the key with this id is present.
func (r *Ring) Has(id string) bool { _, ok := r.known[id]; return ok }

// Key opens the key with this id. A key that is not present is fs.ErrNotExist.
func (r *Ring) Key(id string) (*PrivateKey, error) {
	if k := r.opened[id]; k != nil {
		return k, nil
	}
	ref, ok := r.known[id]
	if !ok {
		return nil, fmt.Errorf("key %.12s: %w", id, fs.ErrNotExist)
	}
	key, err := r.open(ref.location)
	if err != nil {
		return nil, err
	}
	if key.Public.ID != id {
		return nil, fmt.Errorf("key %s: its .pub file belongs to another key", ref.location)
	}
	r.opened[id] = key
	return key, nil
}

func (r *Ring) open(location string) (*PrivateKey, error) {
	if IsPluginKey(location) {
		return r.Plugins.Open(location)
	}
	b, err := readSmall(location)
	if err != nil {
		return nil, fmt.Errorf("open key: %w", err)
	}
	key, err := ParsePrivate(b, r.ask)
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", location, err)
	}
	return key, nil
}

func (r *Ring) ask() ([]byte, error) {
	if !r.asked {
		r.asked = true
		if r.passphrase == nil {
			r.passErr = errors.New("a passphrase is needed")
		} else {
			r.pass, r.passErr = r.passphrase()
		}
	}
	return r.pass, r.passErr
}

// ReadPublic reads a public key file.
func ReadPublic(path string) (PublicKey, error) {
	b, err := readSmall(path)
	if err != nil {
		return PublicKey{}, fmt.Errorf("read key: %w", err)
	}
	key, err := ParsePublic(b)
	if err != nil {
		return PublicKey{}, fmt.Errorf("read key %s: %w", path, err)
	}
	return key, nil
}

func readSmall(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s: got %d bytes, want at most %d", path, st.Size(), maxKeyFile)
	}
	return os.ReadFile(path)
}

// SaveKey writes NAME.pem (mode 0600) and NAME.pub into dir, durably, and refuses to
// replace a key that is there. passphrase nil keeps the key in the clear.
func SaveKey(dir, name string, key *PrivateKey, passphrase []byte) error {
	private, err := key.Encode(passphrase)
	if err != nil {
		return err
	}
	public, err := key.Public.PEM()
	if err != nil {
		return fmt.Errorf("save key %s: %w", name, err)
	}
	// The private half first: a .pub without .pem would read as "kept elsewhere".
	if err := writeNew(filepath.Join(dir, name+".pem"), private, 0o600); err != nil {
		return fmt.Errorf("save key: %w", err)
	}
	if err := writeNew(filepath.Join(dir, name+".pub"), public, 0o644); err != nil {
		return fmt.Errorf("save key: %w", err)
	}
	return nil
}

// SavePublic writes NAME.pub into dir: a key that is known here and kept elsewhere.
func SavePublic(dir, name string, key PublicKey) error {
	public, err := key.PEM()
	if err != nil {
		return fmt.Errorf("save key %s: %w", name, err)
	}
	if err := writeNew(filepath.Join(dir, name+".pub"), public, 0o644); err != nil {
		return fmt.Errorf("save key: %w", err)
	}
	return nil
}

func writeNew(path string, b []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// signPresent signs with the keys of ids that are present: with all that are no effort to
// open, and with encrypted ones until enough have signed; enough 0 means all. It reports
// the names of those that the passphrase does not open. Keys sign in the order of their
// ids, so that the result does not depend on how a file system lists them.
func signPresent(r *Ring, ids []string, enough int, sign func(*PrivateKey) error) (locked []string, err error) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	ids = slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return !r.Has(id) })
	done := 0
	for _, costly := range []bool{false, true} {
		for _, id := range ids {
			if r.known[id].costly != costly || costly && enough > 0 && done >= enough {
				continue
			}
			key, err := r.Key(id)
			if errors.Is(err, ErrPassphrase) || r.passErr != nil && err != nil {
				locked = append(locked, r.known[id].name)
				continue
			}
			if err != nil {
				return nil, err
			}
			if err := sign(key); err != nil {
				return nil, err
			}
			done++
		}
	}
	return locked, nil
}
