//go:build race

package writer

// underRace says that this binary's shadow memory is beyond the fetcher's limit.
const underRace = true
