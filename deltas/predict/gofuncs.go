package predict

// gofunc is a record of a function in Go's pclntab (runtime.funcInfo) that a piece ends
// in. Offsets are in the base.
type gofunc struct {
	start, end int64
	pcdata     int // how many numbers of pcdata it has
}

const (
	funcWords   = 11 // of the part of a record that all have
	pcdataAt    = 7  // the word that says how many there are of pcdata
	flagsAt     = 10 // the word that says, in its top byte, how many there are of funcdata
	maxPcdata   = 8
	maxFuncdata = 16
	maxFuncID   = 64
	funcAlign   = 8
)

// goFuncs finds the records and takes each of their words as a column's.
func (p *Predictor) goFuncs(from int) {
	c, f := &p.piece, &p.state.gofunc
	if f.start > c.old || f.end <= c.old {
		*f = gofunc{}
		if !p.nextFunc(from) {
			return
		}
	}
	for {
		p.inFunc(from)
		if f.end >= c.old+int64(len(c.in)) {
			return
		}
		if at := int(f.end - c.old); !p.startFunc(at) && !p.nextFunc(at+4) {
			return
		}
	}
}

// nextFunc finds the first record from the offset at of the piece on.
func (p *Predictor) nextFunc(at int) bool {
	c := &p.piece
	for at = c.first(at, funcAlign); at < len(c.in); at += funcAlign {
		if p.startFunc(at) {
			return true
		}
	}
	p.state.gofunc = gofunc{}
	return false
}

// startFunc begins a record at the offset at of the piece, if one may begin there.
func (p *Predictor) startFunc(at int) bool {
	c := &p.piece
	if at+4*funcWords > len(c.b) {
		return false
	}
	b := c.b[at:]
	pcdata, flags := le32(b[4*pcdataAt:]), le32(b[4*flagsAt:])
	if pcdata > maxPcdata || flags>>24 > maxFuncdata || flags>>16&0xff != 0 || flags&0xff >= maxFuncID || le32(b[4:]) == 0 {
		return false
	}
	start := c.old + int64(at)
	end := start + 4*int64(funcWords+pcdata+flags>>24)
	p.state.gofunc = gofunc{start, (end + funcAlign - 1) &^ (funcAlign - 1), int(pcdata)}
	return true
}

// inFunc takes the words of the record that lie in the piece, behind the offset from.
func (p *Predictor) inFunc(from int) {
	c, f := &p.piece, &p.state.gofunc
	table := &p.state.tables[tables-1]
	start, end := int(f.start-c.old), int(f.end-c.old)
	for i := 0; start+4*i < end; i++ {
		at := start + 4*i
		if at < from {
			continue
		}
		if at >= len(c.in) || at+4 > len(c.b) {
			return
		}
		column := i
		if i >= funcWords {
			column = funcWords
			if i >= funcWords+f.pcdata {
				column++
			}
		}
		p.number(&table[column], at, uint64(GoFuncs)<<8|uint64(column), 0)
	}
}
