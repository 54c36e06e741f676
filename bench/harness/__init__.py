"""What every experiment uses: settings, workspace, runner and accuracy cells."""
