// Package coder codes the streams of a binary delta with an adaptive range coder.
package coder
