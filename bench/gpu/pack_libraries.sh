#!/usr/bin/env bash
# Sourced by the scripts that make bundles. pack_libraries STAGE PATTERN: the shared libraries of STAGE/bin, but those whose paths match
# PATTERN (the machine's own), stripped in STAGE/lib, where the programs look for them.
pack_libraries() {
  local stage=$1 machines=$2 library program
  ldd "$stage"/bin/* | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u | grep -vE "$machines" |
    while read -r library; do cp -L "$library" "$stage/lib/"; done
  strip "$stage"/bin/*
  strip --strip-unneeded "$stage"/lib/*
  for library in "$stage"/lib/*; do patchelf --set-rpath '$ORIGIN' "$library"; done
  for program in "$stage"/bin/*; do patchelf --set-rpath '$ORIGIN/../lib' "$program"; done
}
