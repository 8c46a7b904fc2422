//go:build race

package fetcher_test

// memoryForTests has room for the shadow memory of the race detector.
const memoryForTests = 1 << 50
