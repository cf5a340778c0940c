// SPDX-License-Identifier: Apache-2.0
//
// ktstrctl, the client's command line.
#include "client/command.h"

int main(int argc, char** argv) { return ktstr::client::Main(argc, argv); }
