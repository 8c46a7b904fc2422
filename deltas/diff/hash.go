package diff

// The hash of a block is a polynomial in radix over values that byteValue gives to its
// bytes, modulo 2^64. It is only a hint: matches are compared byte for byte.
const radix = 0x5851f42d4c957f2d

// byteValue gives bytes values that have nothing to do with each other, so that the sum
// does not hide the differences that occur in real data (splitmix64).
var byteValue = func() (t [256]uint64) {
	for i := range t {
		z := uint64(i+1) * 0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		t[i] = z ^ z>>31
	}
	return t
}()

// laneSize is a quarter of a block. hashBlock works on four lanes at once because the
// multiplications of one depend on each other.
const laneSize = blockSize / 4

var (
	radixPowLane  = power(laneSize)
	radixPowBlock = power(blockSize)
)

func power(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= radix
	}
	return p
}

func hashBlock(b []byte) uint64 {
	_ = b[blockSize-1]
	var h0, h1, h2, h3 uint64
	for i := range laneSize {
		h0 = h0*radix + byteValue[b[i]]
		h1 = h1*radix + byteValue[b[i+laneSize]]
		h2 = h2*radix + byteValue[b[i+2*laneSize]]
		h3 = h3*radix + byteValue[b[i+3*laneSize]]
	}
	return ((h0*radixPowLane+h1)*radixPowLane+h2)*radixPowLane + h3
}

// roll returns the hash of the window one byte on: without out, with in.
func roll(h uint64, out, in byte) uint64 {
	return h*radix - byteValue[out]*radixPowBlock + byteValue[in]
}
