//go:build !race

package fetcher_test

// memoryForTests is the default.
const memoryForTests = 0
