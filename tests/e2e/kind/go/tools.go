//go:build tools

// Package tools pins, through an import that is never compiled, the version of kind.
package tools

import _ "sigs.k8s.io/kind"
