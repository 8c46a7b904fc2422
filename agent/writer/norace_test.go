//go:build !race

package writer

const underRace = false
