package agent

import (
	"encoding/json"
	"maps"
	"reflect"
	"sync"

	"github.com/twinkeel/twinkeel/release"
)

// maxRecords bounds what Records remember: those that were asked for last.
const maxRecords = 512

// Records remember what files of the state directory were parsed to, by their content.
// What a file says is a pure function of its bytes, and most of what an agent reads is
// what it read before: a poll that finds nothing new parses nothing. Several agents may
// share Records. The zero value is ready to use.
type Records struct {
	mu           sync.Mutex
	made, before map[question]answer // before: until made grew too large
	owners       map[reflect.Type]owner
}

// question is what bytes are as a T.
type question struct {
	t     reflect.Type
	bytes string
}

type answer struct {
	value any // never changed
	err   error
}

// of returns what work makes of b, a T, or has made of it before.
func (r *Records) of(t reflect.Type, b []byte, work func() (any, error)) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, known := r.made[question{t, string(b)}]; known {
		return a.value, a.err
	}
	q := question{t, string(b)}
	a, known := r.before[q]
	if !known {
		a.value, a.err = work()
	}
	r.put(q, a)
	return a.value, a.err
}

// put remembers an answer; mu is held.
func (r *Records) put(q question, a answer) {
	if r.made == nil || len(r.made) >= maxRecords/2 {
		r.made, r.before = map[question]answer{}, r.made
	}
	r.made[q] = a
}

// file is a record that is whole, and what is known of its body; the mutex of Records
// guards that.
type file struct {
	*envelope
	as      []parsed
	unknown []foreign
}

// parsed is the body as a T.
type parsed struct {
	is  reflect.Value
	own owner
	err error
}

// foreign are the top-level fields of the body that a T does not have, never changed.
type foreign struct {
	t      reflect.Type
	fields map[string]json.RawMessage
}

// file returns the record that b holds.
func (r *Records) file(b []byte) (*file, error) {
	f, err := r.of(reflect.TypeFor[file](), b, func() (any, error) {
		e, err := open(b)
		return &file{envelope: e}, err
	})
	return f.(*file), err
}

// wrote remembers that b holds e, whose body was made of a T and of nothing else if t is not
// nil. What b is parsed to, parsing it says.
func (r *Records) wrote(b []byte, e *envelope, t reflect.Type) {
	f := &file{envelope: e}
	if t != nil {
		f.unknown = []foreign{{t: t}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := (question{reflect.TypeFor[file](), string(b)}); !r.known(q) {
		r.put(q, answer{value: f})
	}
}

// known reports whether there is an answer, and keeps it; mu is held.
func (r *Records) known(q question) bool {
	if _, known := r.made[q]; known {
		return true
	}
	a, known := r.before[q]
	if known {
		r.put(q, a)
	}
	return known
}

// parse is json.Unmarshal of f's body into to, which is zero.
func (r *Records) parse(f *file, to reflect.Value) error {
	p := r.parsed(f, to.Type())
	if p.err != nil {
		return p.err
	}
	if to.Set(p.is); p.own != nil {
		p.own(to)
	}
	return nil
}

func (r *Records) parsed(f *file, t reflect.Type) parsed {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range f.as {
		if p.is.Type() == t {
			return p
		}
	}
	v := reflect.New(t)
	p := parsed{is: v.Elem(), own: r.owner(t), err: json.Unmarshal(f.Body, v.Interface())}
	f.as = append(f.as, p)
	return p
}

// owner is ownerOf; mu is held.
func (r *Records) owner(t reflect.Type) owner {
	o, known := r.owners[t]
	if !known {
		if r.owners == nil {
			r.owners = map[reflect.Type]owner{}
		}
		o = ownerOf(t)
		r.owners[t] = o
	}
	return o
}

// beside returns the top-level fields of f's body that a T does not have.
func (r *Records) beside(f *file, t reflect.Type) map[string]json.RawMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range f.unknown {
		if u.t == t {
			return u.fields
		}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(f.Body, &fields) != nil {
		fields = nil // what cannot be parsed has none
	}
	known := jsonFields(t)
	maps.DeleteFunc(fields, func(name string, _ json.RawMessage) bool { return known[name] })
	f.unknown = append(f.unknown, foreign{t, fields})
	return fields
}

// directive is release.DecodeDirective. What the directive points to is not to be changed.
func (r *Records) directive(raw []byte) (*release.Directive, error) {
	d, err := r.of(reflect.TypeFor[release.Directive](), raw, func() (any, error) { return release.DecodeDirective(raw) })
	if err != nil {
		return nil, err
	}
	own := *d.(*release.Directive)
	return &own, nil
}

// manifest is release.DecodeManifest. What the manifest points to is not to be changed.
func (r *Records) manifest(raw []byte) (*release.Manifest, error) {
	m, err := r.of(reflect.TypeFor[release.Manifest](), raw, func() (any, error) { return release.DecodeManifest(raw) })
	if err != nil {
		return nil, err
	}
	own := *m.(*release.Manifest)
	return &own, nil
}

// app is release.DecodeAppManifest, and the manifest's digest. What the manifest points to is
// not to be changed.
func (r *Records) app(raw []byte) (*release.AppManifest, release.Digest, error) {
	type parsed struct {
		manifest *release.AppManifest
		digest   release.Digest
	}
	p, err := r.of(reflect.TypeFor[release.AppManifest](), raw, func() (any, error) {
		m, err := release.DecodeAppManifest(raw)
		if err != nil {
			return parsed{}, err
		}
		digest, err := m.Digest()
		return parsed{m, digest}, err
	})
	if err != nil {
		return nil, release.Digest{}, err
	}
	own := *p.(parsed).manifest
	return &own, p.(parsed).digest, nil
}

// owner gives a value, a copy of another one, its own copy of all that it points to. A nil one
// is for types whose values point to nothing that can be changed.
type owner func(v reflect.Value)

// ownerOf returns the owner for values of a type, which does not contain itself.
func ownerOf(t reflect.Type) owner {
	switch t.Kind() {
	case reflect.Pointer:
		return pointerOwner(t.Elem(), ownerOf(t.Elem()))
	case reflect.Slice:
		return sliceOwner(t, ownerOf(t.Elem()))
	case reflect.Map:
		return mapOwner(t, ownerOf(t.Elem()))
	case reflect.Struct:
		return structOwner(t)
	}
	return nil
}

func pointerOwner(t reflect.Type, own owner) owner {
	return func(v reflect.Value) {
		if v.IsNil() {
			return
		}
		p := reflect.New(t)
		if p.Elem().Set(v.Elem()); own != nil {
			own(p.Elem())
		}
		v.Set(p)
	}
}

func sliceOwner(t reflect.Type, own owner) owner {
	return func(v reflect.Value) {
		if v.IsNil() {
			return
		}
		s := reflect.MakeSlice(t, v.Len(), v.Len())
		if reflect.Copy(s, v); own != nil {
			for i := range s.Len() {
				own(s.Index(i))
			}
		}
		v.Set(s)
	}
}

func mapOwner(t reflect.Type, own owner) owner {
	return func(v reflect.Value) {
		if v.IsNil() {
			return
		}
		m := reflect.MakeMapWithSize(t, v.Len())
		for _, k := range v.MapKeys() {
			x := v.MapIndex(k)
			if own != nil {
				x = reflect.New(t.Elem()).Elem()
				x.Set(v.MapIndex(k))
				own(x)
			}
			m.SetMapIndex(k, x)
		}
		v.Set(m)
	}
}

func structOwner(t reflect.Type) owner {
	type field struct {
		at  int
		own owner
	}
	var deep []field // those that point to something
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			if own := ownerOf(f.Type); own != nil {
				deep = append(deep, field{i, own})
			}
		}
	}
	if len(deep) == 0 {
		return nil
	}
	return func(v reflect.Value) {
		for _, f := range deep {
			f.own(v.Field(f.at))
		}
	}
}
